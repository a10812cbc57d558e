"""What the scripts of this folder share: promises, and the words in which they are told.

A promise is a function. Each is tried, in the order in which they stand; for each the script prints one line of JSON, and
it exits with 1 if any was broken:

    {"promise": name, "seconds": 1.2, "broken": "why, or empty", "absent": "what is not installed", "output": "what was printed"}

A script may ask its caller for something, in a line {"ask": "restart", "with": …}, and waits for one line of JSON on its
standard input: {"given": …} or {"error": "why not"}.
"""

import io
import json
import pathlib
import sys
import threading
import time
import traceback

PROMISES = []
project = pathlib.Path.cwd()  # where config.json is, and what is written on the way
CODE = str(project / "code")  # what is submitted: a copy of the folder job


class Absent(Exception):
    """Something is not installed here."""


class Ears(io.TextIOBase):
    """Standard output, heard apart for each thread: the client prints, and several runs may be waited for at once."""

    def __init__(self):
        self.heard = {}

    def write(self, text):
        self.heard.setdefault(threading.get_ident(), io.StringIO()).write(text)
        return len(text)

    def listen(self):
        """Forget what this thread printed so far."""
        self.heard[threading.get_ident()] = io.StringIO()

    def text(self):
        """What this thread printed since it listens."""
        return self.heard.setdefault(threading.get_ident(), io.StringIO()).getvalue()


caller, ears = sys.stdout, Ears()
sys.stdout = ears  # from now on: the client keeps the one that it finds when it is imported


def promise(function):
    PROMISES.append(function)
    return function


def tell(**line):
    print(json.dumps(line), file=caller, flush=True)


def ask(verb, **what):
    """Have the caller do something, and get what it gives."""
    tell(ask=verb, **{"with": what})
    answer = json.loads(sys.stdin.readline())
    assert not answer.get("error"), answer["error"]
    return answer.get("given")


def printed(call):
    """What a call prints, and what it gives."""
    before = len(ears.text())
    given = call()
    return ears.text()[before:], given


def refused(call, *words, kind=Exception, within=30):
    """The call must fail soon, with a message that holds these words. Gives the message."""
    began = time.monotonic()
    try:
        call()
    except kind as e:
        text = str(e)
        missing = [w for w in words if w.lower() not in text.lower()]
        assert not missing, f"{missing} are not in what it says: {text}"
        took = time.monotonic() - began
        assert took < within, f"it took {took:.0f} s to say so: {text}"
        return text
    raise AssertionError("it was not refused")


class Later:
    """A call in a thread of its own; result() waits for it and gives what it printed and gave."""

    def __init__(self, call):
        self.error = self.given = None
        self.output = ""

        def run():
            ears.listen()
            try:
                self.given = call()
            except Exception as e:
                self.error = e
            self.output = ears.text()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def result(self, seconds=120):
        self.thread.join(seconds)
        assert not self.thread.is_alive(), f"it did not end within {seconds} s"
        if self.error:
            raise self.error
        return self.output, self.given


def until(what, ok, seconds=60):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not ok():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.2)


def run(wanted=()):
    """Try all promises, or those whose name holds one of these words, and exit."""
    broken = 0
    for p in PROMISES:
        if wanted and not any(w in p.__name__ for w in wanted):
            continue
        ears.listen()
        began = time.monotonic()
        why = absent = output = ""
        try:
            p()
        except Absent as e:
            absent = str(e)
        except Exception as e:
            broken += 1
            where = traceback.extract_tb(e.__traceback__)
            here = [f for f in where if pathlib.Path(f.filename).parent == pathlib.Path(__file__).parent][-1]
            why = f"{pathlib.Path(here.filename).name}:{here.lineno}: {here.line}\n{type(e).__name__}: {str(e)[:3000]}"
            output = ears.text()[-4000:]
        tell(promise=p.__name__, seconds=round(time.monotonic() - began, 1), broken=why, absent=absent, output=output)
    sys.exit(1 if broken else 0)
