"""Runs the script of a run on this computer, tells the server how it goes, and sends what it wrote.

Invocation.sh or Invocation.bat starts it in the copy of the project that azureml-core made. It needs Python 3.6 and nothing else.
"""

import glob
import json
import os
import posixpath
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.path.dirname(HERE)
LOG = os.path.join(HERE, "std_log.txt")
WINDOWS = os.name == "nt"
LOG_EVERY = 2  # seconds between two looks at the log and at the wish to cancel
PATIENCE = 300  # seconds for which a server that does not answer is asked again


class Failure(Exception):
    """Ends the run with a message for its user."""


class Canceled(Exception):
    """The run was canceled at the server."""


class Server:
    """The calls that are made, with the credential of the run."""

    def __init__(self, spec):
        self.base = spec["service"]
        self.workspace = spec["workspace"]
        self.run = spec["run"]
        self.token = spec["token"]
        self.container = spec["container"]
        experiment = urllib.parse.quote(spec["experiment"], safe="")
        run = "%s/experiments/%s/runs/%s" % (self.workspace, experiment, self.run)
        self.history, self.execution = "/history/v1.0" + run, "/execution/v1.0" + run
        bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
        context = ssl.create_default_context(cafile=bundle if bundle and os.path.isfile(bundle) else None)
        self.opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))

    def call(self, method, path, body=None, headers=None, size=None, patience=PATIENCE):
        """Gives the answer's bytes. body is bytes, or a function that opens a file of that size."""
        until = time.time() + patience
        while True:
            data = body() if callable(body) else body
            request = urllib.request.Request(self.base + path, data=data, method=method, headers=headers or {})
            if size is not None:
                request.add_header("Content-Length", str(size))
            if "sig=" not in path:
                request.add_header("Authorization", "Bearer " + self.token)
            try:
                with self.opener.open(request, timeout=60) as answer:
                    return answer.read()
            except urllib.error.HTTPError as error:
                text = error.read().decode("utf-8", "replace")
                if error.code not in (408, 429, 500, 502, 503, 504) or time.time() > until:
                    raise Failure("%s %s: %s %s" % (method, path.split("?")[0], error.code, text))
            except OSError as error:
                if time.time() > until:
                    raise Failure("the server does not answer: %s" % error)
            finally:
                if hasattr(data, "close"):
                    data.close()
            time.sleep(1)

    def json(self, method, path, value=None, **more):
        body = None if value is None else json.dumps(value).encode("utf-8")
        return json.loads(self.call(method, path, body, {"Content-Type": "application/json"}, **more) or b"null")

    def event(self, name, message=""):
        data = {"RunId": self.run}
        if message:
            data["ErrorResponse"] = {"error": {"code": "UserError", "message": message, "details": []}}
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        self.json("POST", self.history + "/events", {"timestamp": stamp, "name": "Microsoft.MachineLearning.Run." + name, "data": data})

    def patch(self, **fields):
        self.json("PATCH", self.history, dict(fields, runId=self.run))

    def canceled(self):
        try:
            return self.json("GET", self.history, patience=0)["status"] in ("CancelRequested", "Canceled")
        except (Failure, ValueError, KeyError):
            return False  # to be asked again

    def places(self, names):
        """Gives for each artifact of the run where it goes."""
        path = "/artifact/v2.0%s/artifacts/batch/metadata/ExperimentRun/%s" % (self.workspace, self.container)
        answer = self.json("POST", path, {"paths": [{"path": n} for n in names]})
        return {n: self.local(i["contentUri"]) for n, i in answer["artifactContentInformation"].items()}

    @staticmethod
    def local(uri):
        """The path of a blob's address at the server as this computer reaches it: the address's own name may be unknown here."""
        parts = urllib.parse.urlsplit(uri)
        path = parts.path if parts.path.startswith("/blob/") else "/blob/run" + parts.path
        return path + "?" + parts.query

    def put(self, place, name):
        size = os.path.getsize(name)
        self.call("PUT", place, lambda: open(name, "rb"), {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}, size)


def files_below(folder):
    for path, _, names in os.walk(folder):
        for name in names:
            full = os.path.join(path, name)
            if os.path.isfile(full):
                yield full, posixpath.join(*os.path.relpath(full, folder).split(os.sep))


class Log:
    """What the run prints, kept in a file and sent from time to time."""

    def __init__(self, server):
        self.server, self.sent, self.place, self.lock = server, -1, None, threading.Lock()
        self.file = open(LOG, "ab", 0)

    def say(self, text):
        self.file.write((text + "\n").encode("utf-8"))

    def send(self):
        with self.lock:
            size = os.path.getsize(LOG)
            if size == self.sent:
                return
            if self.place is None:
                self.place = self.server.places(["user_logs/std_log.txt"])["user_logs/std_log.txt"]
            with open(LOG, "rb") as log:
                data = log.read(size)
            self.server.call("PUT", self.place, data, {"x-ms-blob-type": "BlockBlob", "Content-Type": "text/plain; charset=utf-8"})
            self.sent = size


def run_step(log, *command):
    log.say("+ " + " ".join(command))
    try:
        code = subprocess.call(command, stdout=log.file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=HERE, env=dict(os.environ, NO_COLOR="1"))
    except OSError as error:
        raise Failure("%s cannot be started: %s" % (command[0], error))
    if code:
        raise Failure("the environment cannot be made: %s ended with exit code %d" % (os.path.basename(command[0]), code))


def environment(spec, log):
    """Gives the interpreter and the folders that come first on PATH."""
    if spec["interpreter"]:
        return spec["interpreter"], []
    packages = spec["packages"]
    if not packages:
        return sys.executable, []
    home = os.path.join(os.path.expanduser("~"), ".azureml", "envs", "moorage_" + packages["hash"][:16])
    python = os.path.join(home, "python.exe") if WINDOWS else os.path.join(home, "bin", "python")
    venv = os.path.join(home, "Scripts", "python.exe") if WINDOWS else python
    done = os.path.join(home, "ok")
    lock = home + ".lock"
    os.makedirs(os.path.dirname(home), exist_ok=True)
    while True:  # another run may be making it
        try:
            os.mkdir(lock)
            break
        except FileExistsError:
            try:
                old = time.time() - os.path.getmtime(lock) > 3600
            except OSError:
                continue
            if old:
                os.rmdir(lock)
            time.sleep(1)
    try:
        if not os.path.exists(done):
            shutil.rmtree(home, ignore_errors=True)
            make_environment(packages, home, venv, log)
            open(done, "w").close()
    finally:
        os.rmdir(lock)
    first = python if os.path.exists(python) else venv
    return first, [os.path.dirname(first), os.path.join(home, "Scripts"), os.path.join(home, "Library", "bin")] if WINDOWS else [os.path.dirname(first)]


def installed(wanted):
    """Gives version and path of an interpreter of the wanted minor release, the wanted patch release before others; None: there is none."""
    if not wanted:
        return None
    minor = ".".join(wanted.split(".")[:2])
    pyenv = os.environ.get("PYENV_ROOT") or os.path.join(os.path.expanduser("~"), ".pyenv")
    name = "python.exe" if WINDOWS else os.path.join("bin", "python")
    places = [sys.executable, shutil.which("python" + minor)] + sorted(glob.glob(os.path.join(pyenv, "versions", minor + ".*", name)), reverse=True)
    found = None
    for place in places:
        try:
            version = place and subprocess.check_output([place, "-c", "import platform; print(platform.python_version())"], stderr=subprocess.DEVNULL, universal_newlines=True).strip()
        except (OSError, subprocess.CalledProcessError):
            continue
        if version == wanted:
            return version, place
        if version and version.startswith(minor + ".") and not found:
            found = version, place
    return found


def make_environment(packages, home, venv, log):
    conda = next((shutil.which(t) for t in ("micromamba", "mamba", "conda") if shutil.which(t)), None)
    uv = shutil.which("uv")
    with open(os.path.join(HERE, "environment.yml"), "w", encoding="utf-8") as file:
        file.write(packages["conda_file"])
    requirements = os.path.join(HERE, "requirements.txt")
    with open(requirements, "w", encoding="utf-8") as file:
        file.write("\n".join(packages["requirements"]) + "\n")
    if conda:
        log.say("environment by %s" % conda)
        file = os.path.join(HERE, "environment.yml")
        if os.path.basename(conda).lower().startswith("micromamba"):
            return run_step(log, conda, "create", "-y", "-p", home, "-f", file)
        return run_step(log, conda, "env", "create", "-p", home, "-f", file)
    for line in packages["say"]:
        log.say(line)
    if uv:
        log.say("environment by %s, because there is no conda tool" % uv)
        wanted, here = packages["python"], installed(packages["python"])
        if here:
            log.say("Python %s at %s for the %s that is asked for" % (here[0], here[1], wanted))
        try:
            run_step(log, *[uv, "venv", "--quiet", home] + (["--python", here[1] if here else wanted] if wanted else []))
        except Failure:
            log.say("warning: Python %s is not to be had; taking %s" % (wanted, sys.version.split()[0]))
            run_step(log, uv, "venv", "--quiet", "--python", sys.executable, home)
        if packages["requirements"]:
            run_step(log, uv, "pip", "install", "--python", venv, "-r", requirements)
        return None
    wanted = packages["python"]
    version, python = installed(wanted) or (sys.version.split()[0], sys.executable)
    log.say("environment by Python %s at %s, because there is neither a conda tool nor uv" % (version, python))
    if wanted and not (version + ".").startswith(wanted + "."):
        log.say("warning: the environment asks for Python %s" % wanted)
    run_step(log, python, "-m", "venv", home)
    if packages["requirements"]:
        run_step(log, venv, "-m", "pip", "install", "--disable-pip-version-check", "-r", requirements)
    return None


class Data:
    """The data of the run: what is fetched before and stored afterwards, and what the script is told."""

    def __init__(self, spec, server):
        self.server, self.variables, self.values, self.outputs, self.made = server, dict(spec["data_variables"]), {}, [], []
        for data in spec["inputs"]:
            self.fetch(data)
        for data in spec["outputs"]:
            folder = self.place(data, "outputs")
            os.makedirs(folder, exist_ok=True)
            self.tell(data, folder)
            self.outputs.append((folder, data))

    def place(self, data, kind):
        if not data["at"]:
            return os.path.join(HERE, kind, data["name"])
        folder = os.path.normpath(os.path.join(WORK, data["at"]))
        if not os.path.exists(folder) and not folder.startswith(WORK + os.sep):
            self.made.append(folder)
        return folder

    def tell(self, data, value):
        for name in data["variables"]:
            self.variables[name] = value
        self.values[data["token"]] = value

    def fetch(self, data):
        if data["value"]:
            return self.tell(data, data["value"])
        folder = self.place(data, "inputs")
        for name, place in data["files"].items():
            path = os.path.join(folder, *name.split("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(self.server.call("GET", place))
        return self.tell(data, os.path.join(folder, data["file"]) if data["file"] else folder)

    def store(self):
        for folder, data in self.outputs:
            for path, name in files_below(folder):
                self.server.put(data["prefix"] + urllib.parse.quote(name) + "?" + data["query"], path)

    def remove(self):
        """Takes away the folders outside of the project's copy that were made for the run."""
        for folder in self.made:
            shutil.rmtree(folder, ignore_errors=True)

    def fill(self, text):
        if not self.values:
            return text
        tokens = sorted(self.values, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, tokens)), lambda m: self.values[m.group(0)], text)


def command_line(spec, python, data):
    if spec["command"]:
        text = data.fill(spec["command"])
        return text if WINDOWS else ["/bin/sh", "-c", text]
    return [python, spec["script"]] + [data.fill(a) for a in spec["arguments"]]


def end(process):
    """Ends a process and what it started."""
    if WINDOWS:
        subprocess.call(["taskkill", "/T", "/F", "/PID", str(process.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return
    for sig, wait in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, sig)
        except OSError:
            return
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            pass


def execute(spec, server, log):
    python, path = environment(spec, log)
    data = Data(spec, server)
    variables = dict(os.environ, **spec["variables"])
    variables.update(data.variables)
    variables["PATH"] = os.pathsep.join(path + [variables.get("PATH", os.defpath)])
    variables["PYTHONPATH"] = os.pathsep.join([os.path.join(HERE, "flush")] + [p for p in [variables.get("PYTHONPATH")] if p])
    variables["AZUREML_RUN_TOKEN"] = variables["MLFLOW_TRACKING_TOKEN"] = spec["token"]
    for name in ("outputs", "logs"):
        os.makedirs(os.path.join(WORK, name), exist_ok=True)
    if server.canceled():
        raise Canceled
    server.event("Start")
    group = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)} if WINDOWS else {"start_new_session": True}
    line = command_line(spec, python, data)
    try:
        process = subprocess.Popen(
            line, cwd=WORK, env=variables, stdin=subprocess.DEVNULL, stdout=log.file, stderr=subprocess.STDOUT, shell=isinstance(line, str), **group
        )
    except OSError as error:
        raise Failure("%s cannot be started: %s" % (line[0] if isinstance(line, list) else "the command", error))
    until = time.time() + spec["seconds"] if spec["seconds"] else None
    try:
        watch(process, until, server, log)
    finally:
        if process.poll() is None:
            end(process)
        data.store()
        data.remove()
        send_artifacts(server)
    if process.returncode:
        raise Failure("the script ended with exit code %d" % process.returncode)
    if spec["registers"]:
        server.json("POST", server.execution + "/outputs", {})


def watch(process, until, server, log):
    while True:
        try:
            process.wait(LOG_EVERY)
            return
        except subprocess.TimeoutExpired:
            pass
        if until and time.time() > until:
            raise Failure("the run took longer than its limit and was ended")
        if server.canceled():
            raise Canceled
        try:
            log.send()
        except Failure as failure:
            log.say("the log could not be sent: %s" % failure)


def send_artifacts(server):
    found = [(path, folder + "/" + name) for folder in ("outputs", "logs") for path, name in files_below(os.path.join(WORK, folder))]
    for i in range(0, len(found), 200):
        part = found[i : i + 200]
        places = server.places([name for _, name in part])
        for path, name in part:
            server.put(places[name], path)


def main():
    file = os.path.join(HERE, "run.json")
    with open(file, encoding="utf-8") as text:
        spec = json.load(text)
    os.remove(file)  # it holds the credential of the run
    server = Server(spec)
    log = Log(server)
    message = ""
    try:
        server.patch(status="Preparing")
        execute(spec, server, log)
        outcome = "Completed"
    except Canceled:
        outcome = "Canceled"
    except Failure as failure:
        outcome, message = "Failed", str(failure)
    except Exception as error:  # nothing that goes wrong here may leave the run open
        outcome, message = "Failed", "%s: %s" % (type(error).__name__, error)
    if message:
        log.say(message)
    try:
        log.send()
    finally:
        server.event(outcome, message)


if __name__ == "__main__":
    main()
