"""The same calls against MLflow's own server and against ours: outcomes must agree.

Usage: differential.py REFERENCE_URI OUR_URI      (our token from MLFLOW_TRACKING_TOKEN)

An outcome is the error_code, or the answer with ids, times and places taken out. Differences that are meant are listed,
with their reason, in MEANT; any other difference ends the script with an error. Start the reference with
`mlflow server --backend-store-uri sqlite:///m.db --artifacts-destination ./artifacts` (package mlflow, same version).
"""

import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid

# What is different on purpose, by the label of the call.
MEANT = {
    "order twice": "the reference answers 500, which its client repeats for minutes (mlflow.md §9)",
    "experiment deleted rename": "the reference answers 500, which its client repeats for minutes",
    "experiment create blank": "a name that cannot be seen is refused",
    "experiment create local": "a place on the server's own disk is refused (mlflow.md §10)",
    "run create bad tag": "the rule for keys holds on every way in",
    "inputs nameless": "a name is required (mlflow.md §5)",
    "update bad status": "the reference takes an unknown word for no change",
    "order ['`Run name`']": "the reference knows this alias in filters only",
    "unknown path": "the reference answers HTML",
    "search bad view": "the reference takes an unknown word for the default",
    "filter trailing and": "the reference forgives it; the grammar does not have it (mlflow.md §9)",
}

NAME = "diff-" + uuid.uuid4().hex[:6]


class Server:
    def __init__(self, base, token):
        self.base, self.token, self.names = base.rstrip("/"), token, {}

    def call(self, method, path, body=None, query=None, raw=None):
        url = self.base + "/api/2.0" + path
        if query:
            url += "?" + urllib.parse.urlencode(query, doseq=True)
        data = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
        request = urllib.request.Request(url, data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json" if raw is None else "application/octet-stream")
        if self.token:
            request.add_header("Authorization", "Bearer " + self.token)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()

    def filled(self, value):
        """Replaces {name} by what an earlier answer gave."""
        if isinstance(value, str):
            return re.sub(r"\{(\w+)\}", lambda m: self.names.get(m.group(1), m.group(0)), value)
        if isinstance(value, dict):
            return {k: self.filled(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.filled(v) for v in value]
        return value


VOLATILE = {"creation_time", "last_update_time", "artifact_uri", "artifact_location", "root_uri", "next_page_token", "start_time",
            "effective_trace_archival_retention", "workspace", "trace_location"}


def plain(value, names):
    """An answer without what may differ: times, places, ids (by the name that they have in the script)."""
    if isinstance(value, dict):
        return {k: names.get(v, v) if k == "experiment_id" else plain(v, names) for k, v in sorted(value.items()) if k not in VOLATILE and v not in ({}, [])}
    if isinstance(value, list):
        out = [plain(v, names) for v in value]
        keys = [v["key"] for v in out if isinstance(v, dict) and "key" in v]
        return sorted(out, key=lambda v: v["key"]) if len(keys) == len(out) else out  # a stable sort leaves a history alone
    if isinstance(value, str) and value.startswith('[{"'):  # a history of models: the reference adds fields that were not sent
        return sorted(m.get("artifact_path", "") for m in json.loads(value))
    if isinstance(value, str) and len(value) > 100:
        return f"{value[:20]}… of {len(value)}"
    return names.get(value, value) if isinstance(value, str) and len(value) == 32 else value


def first_difference(a, b, at=""):
    if isinstance(a, dict) and isinstance(b, dict):
        for k in sorted(a.keys() | b.keys()):
            if a.get(k) != b.get(k):
                return first_difference(a.get(k), b.get(k), at + "." + k)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b)):
            if x != y:
                return first_difference(x, y, f"{at}[{i}]")
    return f"{at or 'outcome'}: reference {json.dumps(a)[:200]}, ours {json.dumps(b)[:200]}"


def outcome(server, status, body):
    try:
        answer = json.loads(body or b"{}")
    except ValueError:
        answer = {"text": body.decode("utf-8", "replace")[:80]} if status < 400 else {}
    if status >= 400:
        return {"error": answer.get("error_code", status)}
    return plain(answer, {v: "<" + k + ">" for k, v in server.names.items()})


def calls():
    """label, method, path, body or query, {name: path of the answer to remember}"""
    P, G = "POST", "GET"
    e, r, m = "/mlflow/experiments/", "/mlflow/runs/", "/mlflow/metrics/"
    yield "experiment create", P, e + "create", {"name": NAME, "tags": [{"key": "a", "value": "b"}]}, {"exp": "experiment_id"}
    yield "experiment create twice", P, e + "create", {"name": NAME}, {}
    yield "experiment create nameless", P, e + "create", {}, {}
    yield "experiment create empty", P, e + "create", {"name": ""}, {}
    yield "experiment create blank", P, e + "create", {"name": "   "}, {}
    yield "experiment create number", P, e + "create", {"name": 5}, {}
    yield "experiment create long", P, e + "create", {"name": "x" * 501}, {}
    yield "experiment create local", P, e + "create", {"name": NAME + "-loc", "artifact_location": "/etc"}, {}
    yield "experiment create fragment", P, e + "create", {"name": NAME + "-loc2", "artifact_location": "s3://b/x#y"}, {}
    yield "experiment get", G, e + "get", {"experiment_id": "{exp}"}, {}
    yield "experiment get default", G, e + "get", {"experiment_id": "0"}, {}
    yield "experiment get none", G, e + "get", {"experiment_id": "999999"}, {}
    yield "experiment get word", G, e + "get", {"experiment_id": "abc"}, {}
    yield "experiment get nothing", G, e + "get", {}, {}
    yield "experiment by name", G, e + "get-by-name", {"experiment_name": NAME}, {}
    yield "experiment by no name", G, e + "get-by-name", {"experiment_name": "none" + NAME}, {}
    yield "experiment search", P, e + "search", {"max_results": 5, "filter": f"name = '{NAME}'"}, {}
    yield "experiment search unlimited", P, e + "search", {"filter": f"name = '{NAME}'"}, {}
    yield "experiment search zero", P, e + "search", {"max_results": 0}, {}
    yield "experiment search too many", P, e + "search", {"max_results": 50001}, {}
    yield "experiment search get", G, e + "search", {"max_results": 5, "filter": f"name LIKE '{NAME}%' AND tags.a = 'b'", "view_type": "ALL"}, {}
    for text in ["tags.a = 'b'", "tag.a != 'b'", "attribute.name ILIKE '%DIFF%'", "attributes.name = 'x'", "experiment_id = 1", "name > 'a'",
                 "tags.none IS NULL", "tags.a IS NOT NULL", "creation_time > 0", "creation_time > 'x'", "metrics.m = 1", "name IN ('a')"]:
        yield "experiment filter " + text, P, e + "search", {"max_results": 5, "filter": f"name = '{NAME}' AND {text}"}, {}
    yield "experiment order tag", P, e + "search", {"max_results": 5, "order_by": ["tags.a"]}, {}
    yield "experiment order bad", P, e + "search", {"max_results": 5, "order_by": ["nope"]}, {}
    yield "experiment tag", P, e + "set-experiment-tag", {"experiment_id": "{exp}", "key": "k", "value": "v"}, {}
    yield "experiment tag no value", P, e + "set-experiment-tag", {"experiment_id": "{exp}", "key": "k"}, {}
    yield "experiment tag bad key", P, e + "set-experiment-tag", {"experiment_id": "{exp}", "key": "../k", "value": "v"}, {}
    yield "experiment untag", P, e + "delete-experiment-tag", {"experiment_id": "{exp}", "key": "k"}, {}
    yield "experiment untag absent", P, e + "delete-experiment-tag", {"experiment_id": "{exp}", "key": "k"}, {}
    yield "experiment rename", P, e + "update", {"experiment_id": "{exp}", "new_name": NAME + "-x"}, {}
    yield "experiment rename nothing", P, e + "update", {"experiment_id": "{exp}"}, {}
    yield "experiment restore active", P, e + "restore", {"experiment_id": "{exp}"}, {}

    yield "run create", P, r + "create", {"experiment_id": "{exp}", "user_id": "u", "run_name": "rn", "start_time": 1000, "tags": [{"key": "t", "value": "1"}]}, {"run": "run.info.run_id"}
    yield "run create nowhere", P, r + "create", {"experiment_id": "999999"}, {}
    yield "run create number", P, r + "create", {"experiment_id": 1}, {}
    yield "run create names differ", P, r + "create", {"experiment_id": "{exp}", "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]}, {}
    yield "run create by tag", P, r + "create", {"experiment_id": "{exp}", "start_time": 2000, "tags": [{"key": "mlflow.runName", "value": "b"}]}, {"run2": "run.info.run_id"}
    yield "run create bad tag", P, r + "create", {"experiment_id": "0", "tags": [{"key": "a//b", "value": "b"}]}, {}
    yield "run get none", G, r + "get", {"run_id": "0" * 32}, {}
    yield "run get nothing", G, r + "get", {}, {}
    yield "run get uuid", G, r + "get", {"run_uuid": "{run}"}, {}
    yield "metric", P, r + "log-metric", {"run_id": "{run}", "key": "m", "value": 0.5, "timestamp": 10, "step": 1}, {}
    yield "metric again", P, r + "log-metric", {"run_id": "{run}", "key": "m", "value": 0.5, "timestamp": 10, "step": 1}, {}
    yield "metric text", P, r + "log-metric", {"run_id": "{run}", "key": "m", "value": "1.5", "timestamp": "11", "step": "2"}, {}
    yield "metric nan", P, r + "log-metric", {"run_id": "{run}", "key": "n", "value": "NaN", "timestamp": 1}, {}
    yield "metric inf", P, r + "log-metric", {"run_id": "{run}", "key": "i", "value": "Infinity", "timestamp": 1}, {}
    yield "metric word", P, r + "log-metric", {"run_id": "{run}", "key": "m", "value": "x", "timestamp": 1}, {}
    yield "metric no value", P, r + "log-metric", {"run_id": "{run}", "key": "m", "timestamp": 1}, {}
    yield "metric no time", P, r + "log-metric", {"run_id": "{run}", "key": "m", "value": 1}, {}
    yield "metric no key", P, r + "log-metric", {"run_id": "{run}", "value": 1, "timestamp": 1}, {}
    yield "metric bad key", P, r + "log-metric", {"run_id": "{run}", "key": "/m", "value": 1, "timestamp": 1}, {}
    yield "metric long key", P, r + "log-metric", {"run_id": "{run}", "key": "m" * 251, "value": 1, "timestamp": 1}, {}
    yield "metric no run", P, r + "log-metric", {"key": "m", "value": 1, "timestamp": 1}, {}
    yield "param", P, r + "log-parameter", {"run_id": "{run}", "key": "p", "value": "Adam"}, {}
    yield "param again", P, r + "log-parameter", {"run_id": "{run}", "key": "p", "value": "Adam"}, {}
    yield "param changed", P, r + "log-parameter", {"run_id": "{run}", "key": "p", "value": "2"}, {}
    yield "param empty", P, r + "log-parameter", {"run_id": "{run}", "key": "pe", "value": ""}, {}
    yield "param long", P, r + "log-parameter", {"run_id": "{run}", "key": "pl", "value": "x" * 6001}, {}
    yield "batch", P, r + "log-batch", {"run_id": "{run2}", "metrics": [{"key": "m", "value": 7, "timestamp": 1, "step": 0}], "params": [{"key": "p", "value": "sgd"}], "tags": [{"key": "x", "value": "y"}]}, {}
    yield "batch empty", P, r + "log-batch", {"run_id": "{run2}"}, {}
    yield "batch param twice", P, r + "log-batch", {"run_id": "{run2}", "params": [{"key": "z", "value": "1"}, {"key": "z", "value": "2"}]}, {}
    yield "batch param twice same", P, r + "log-batch", {"run_id": "{run2}", "params": [{"key": "zs", "value": "1"}, {"key": "zs", "value": "1"}]}, {}
    yield "batch too many params", P, r + "log-batch", {"run_id": "{run2}", "params": [{"key": f"q{i}", "value": "1"} for i in range(101)]}, {}
    yield "batch too many metrics", P, r + "log-batch", {"run_id": "{run2}", "metrics": [{"key": "q", "value": 1, "timestamp": i, "step": 0} for i in range(1001)]}, {}
    yield "batch metric lacks time", P, r + "log-batch", {"run_id": "{run2}", "metrics": [{"key": "q", "value": 1}]}, {}
    yield "tag", P, r + "set-tag", {"run_id": "{run}", "key": "t", "value": "2"}, {}
    yield "tag name", P, r + "set-tag", {"run_id": "{run2}", "key": "mlflow.runName", "value": "renamed"}, {}
    yield "tag delete", P, r + "delete-tag", {"run_id": "{run2}", "key": "x"}, {}
    yield "tag delete absent", P, r + "delete-tag", {"run_id": "{run2}", "key": "x"}, {}
    yield "inputs", P, r + "log-inputs", {"run_id": "{run}", "datasets": [{"tags": [{"key": "mlflow.data.context", "value": "train"}], "dataset": {"name": "ds", "digest": "dg", "source_type": "local", "source": "s", "schema": "{}", "profile": "{}"}}]}, {}
    yield "run create extra", P, r + "create", {"experiment_id": "0", "run_name": "extra"}, {"extra": "run.info.run_id"}
    yield "inputs nameless", P, r + "log-inputs", {"run_id": "{extra}", "datasets": [{"dataset": {"digest": "dg", "source_type": "local", "source": "s"}}]}, {}
    yield "model", P, r + "log-model", {"run_id": "{run}", "model_json": json.dumps({"artifact_path": "m", "flavors": {}, "utc_time_created": "t", "run_id": "r"})}, {}
    yield "model bad", P, r + "log-model", {"run_id": "{run}", "model_json": "{"}, {}
    yield "model lacking", P, r + "log-model", {"run_id": "{run}", "model_json": "{}"}, {}
    yield "update", P, r + "update", {"run_id": "{run}", "status": "FINISHED", "end_time": 5000}, {}
    yield "update name", P, r + "update", {"run_id": "{run2}", "run_name": "second"}, {}
    yield "update bad status", P, r + "update", {"run_id": "{run}", "status": "DONE"}, {}
    yield "run get", G, r + "get", {"run_id": "{run}"}, {}
    yield "run2 get", G, r + "get", {"run_id": "{run2}"}, {}
    yield "history", G, m + "get-history", {"run_id": "{run}", "metric_key": "m"}, {}
    yield "history page", G, m + "get-history", {"run_id": "{run}", "metric_key": "m", "max_results": 1}, {}
    yield "history zero", G, m + "get-history", {"run_id": "{run}", "metric_key": "m", "max_results": 0}, {}
    yield "history unknown", G, m + "get-history", {"run_id": "{run}", "metric_key": "none"}, {}
    yield "history keyless", G, m + "get-history", {"run_id": "{run}"}, {}
    yield "history bulk", G, m + "get-history-bulk-interval", {"run_ids": ["{run}", "{run2}"], "metric_key": "m", "max_results": 10}, {}
    yield "history bulk steps", G, m + "get-history-bulk-interval", {"run_ids": ["{run}"], "metric_key": "m", "start_step": 2, "end_step": 2, "max_results": 10}, {}
    yield "history bulk half", G, m + "get-history-bulk-interval", {"run_ids": ["{run}"], "metric_key": "m", "start_step": 2, "max_results": 10}, {}
    for text in ["", "metrics.m < 1", "metrics.m > 1", "metrics.m != 1.5", "metric.n = 1", "metrics.n != 1", "metrics.i > 1e300", "params.p = 'Adam'", "params.p LIKE 'a%'", "params.p ILIKE 'a%'",
                 "params.p != 'x'", "params.none != 'x'", "params.none IS NULL", "params.p IS NOT NULL", "tags.t = '2'", "tags.`t` = \"2\"", "status = 'FINISHED'", "status = 'finished'",
                 "attributes.end_time = 5000", "start_time < 1500", "run_name = 'second'", "`Run name` LIKE 's%'", "user_id = 'u'", "run_id IN ('{run}')", "run_id NOT IN ('{run}')", "run_id = '{run}'",
                 "dataset.name = 'ds'", "dataset.context IN ('train', 'x')", "dataset.digest LIKE 'd%'", "dataset.nope = 'x'", "metrics.m = 'x'", "params.p = 1", "params.p > 'a'", "nope.m = 1", "nope = 1",
                 "metrics.m = 1 OR metrics.m = 2", "(metrics.m = 1)", "metrics.m RLIKE 'x'", "metrics.m <> 1", "metrics.m == 1", "run_id IN ()", "run_id IN (1)", "status IN ('FINISHED')", "metrics.m BETWEEN 1 AND 2",
                 "metrics.m = +1", "metrics.m", "metrics.m = ", "params.p = 'x", "Metrics.m = 1", "params.p = 'a''b'", "metrics.m IS NULL", "status IS NULL", "metrics.m >= -1.5e-3", "tags.mlflow.runName = 'rn'",
                 "params.p = 'Adam' and metrics.m > 1 AND tags.t = '2'", "metrics.m = .5", "metrics.m=1.5", "params.p='Adam'", "created > 0", "attr.start_time >= 1000"]:
        yield "filter " + text, P, r + "search", {"experiment_ids": ["{exp}"], "filter": text}, {}
    yield "filter trailing and", P, r + "search", {"experiment_ids": ["{exp}"], "filter": "metrics.m > 1 AND"}, {}
    for order in [["metrics.m"], ["metrics.m DESC"], ["params.none"], ["params.p asc"], ["end_time"], ["end_time DESC"], ["start_time DESC"], ["attribute.run_name"], ["tags.t"], ["nope"], ["dataset.name"],
                  ["metrics.n DESC"], ["metrics.m UP"], ["params.p DESC", "metrics.m"], ["`Run name`"], ["created"]]:
        yield "order " + str(order), P, r + "search", {"experiment_ids": ["{exp}"], "order_by": order}, {}
    yield "order twice", P, r + "search", {"experiment_ids": ["{exp}"], "order_by": ["metrics.m", "metrics.m"]}, {}
    yield "search page", P, r + "search", {"experiment_ids": ["{exp}"], "max_results": 1}, {}
    yield "search page bad", P, r + "search", {"experiment_ids": ["{exp}"], "page_token": "x"}, {}
    yield "search too many", P, r + "search", {"experiment_ids": ["{exp}"], "max_results": 50001}, {}
    yield "search zero", P, r + "search", {"experiment_ids": ["{exp}"], "max_results": 0}, {}
    yield "search nowhere", P, r + "search", {"experiment_ids": []}, {}
    yield "search nothing", P, r + "search", {}, {}
    yield "search unknown", P, r + "search", {"experiment_ids": ["999999"]}, {}
    yield "search word", P, r + "search", {"experiment_ids": ["abc"]}, {}
    yield "search bad view", P, r + "search", {"experiment_ids": ["{exp}"], "run_view_type": "SOME"}, {}
    yield "unknown field", P, r + "search", {"experiment_ids": ["{exp}"], "nope": {"a": [1]}}, {}

    a = "/mlflow-artifacts/artifacts"
    yield "artifact put", "PUT", a + "/{exp}/{run}/artifacts/dir/a.txt", b"hello", {}
    yield "artifact get", G, a + "/{exp}/{run}/artifacts/dir/a.txt", {}, {}
    yield "artifact get none", G, a + "/{exp}/{run}/artifacts/none", {}, {}
    yield "artifact list", G, a, {"path": "{exp}/{run}/artifacts"}, {}
    yield "artifact list dir", G, a, {"path": "{exp}/{run}/artifacts/dir"}, {}
    yield "artifact list none", G, a, {"path": "{exp}/{run}/artifacts/none"}, {}
    yield "artifact list file", G, a, {"path": "{exp}/{run}/artifacts/dir/a.txt"}, {}
    yield "artifact list up", G, a, {"path": "../x"}, {}
    yield "artifact list absolute", G, a, {"path": "/etc"}, {}
    yield "artifacts of run", G, "/mlflow/artifacts/list", {"run_id": "{run}"}, {}
    yield "artifacts of run dir", G, "/mlflow/artifacts/list", {"run_id": "{run}", "path": "dir"}, {}
    yield "artifacts of run up", G, "/mlflow/artifacts/list", {"run_id": "{run}", "path": "../.."}, {}
    yield "artifact delete", "DELETE", a + "/{exp}/{run}/artifacts/dir/a.txt", {}, {}

    yield "run delete", P, r + "delete", {"run_id": "{run}"}, {}
    yield "run delete again", P, r + "delete", {"run_id": "{run}"}, {}
    yield "run deleted tag", P, r + "set-tag", {"run_id": "{run}", "key": "t", "value": "3"}, {}
    yield "run deleted metric", P, r + "log-metric", {"run_id": "{run}", "key": "m", "value": 1, "timestamp": 1}, {}
    yield "run deleted update", P, r + "update", {"run_id": "{run}", "status": "FAILED"}, {}
    yield "run deleted get", G, r + "get", {"run_id": "{run}"}, {}
    yield "search deleted", P, r + "search", {"experiment_ids": ["{exp}"], "run_view_type": "DELETED_ONLY"}, {}
    yield "search all", P, r + "search", {"experiment_ids": ["{exp}"], "run_view_type": "ALL", "order_by": ["run_name"]}, {}
    yield "run restore", P, r + "restore", {"run_id": "{run}"}, {}
    yield "run restore again", P, r + "restore", {"run_id": "{run}"}, {}
    yield "experiment delete", P, e + "delete", {"experiment_id": "{exp}"}, {}
    yield "experiment delete again", P, e + "delete", {"experiment_id": "{exp}"}, {}
    yield "experiment deleted get", G, e + "get", {"experiment_id": "{exp}"}, {}
    yield "experiment deleted rename", P, e + "update", {"experiment_id": "{exp}", "new_name": "n"}, {}
    yield "experiment deleted tag", P, e + "set-experiment-tag", {"experiment_id": "{exp}", "key": "k", "value": "v"}, {}
    yield "experiment deleted run", P, r + "create", {"experiment_id": "{exp}"}, {}
    yield "experiment deleted run get", G, r + "get", {"run_id": "{run}"}, {}
    yield "experiment name taken by deleted", P, e + "create", {"name": NAME + "-x"}, {}
    yield "experiment restore", P, e + "restore", {"experiment_id": "{exp}"}, {}
    yield "experiment restored run", G, r + "get", {"run_id": "{run}"}, {}
    yield "unknown path", G, "/mlflow/nope", {}, {}


def remember(server, body, names):
    for name, path in names.items():
        value = json.loads(body)
        for step in path.split("."):
            value = value[step]
        server.names[name] = value


def main():
    servers = [Server(sys.argv[1], ""), Server(sys.argv[2], os.environ.get("MLFLOW_TRACKING_TOKEN", ""))]
    total, different = 0, 0
    for label, method, path, content, names in calls():
        outcomes = []
        for s in servers:
            filled = s.filled(content) if not isinstance(content, bytes) else content
            if isinstance(filled, bytes):
                status, body = s.call(method, s.filled(path), raw=filled)
            elif method == "GET":
                status, body = s.call(method, s.filled(path), query=filled)
            else:
                status, body = s.call(method, s.filled(path), body=filled)
            if status < 400:
                remember(s, body, names)
            outcomes.append(outcome(s, status, body))
        total += 1
        if outcomes[0] != outcomes[1]:
            why = MEANT.get(label)
            print(("meant" if why else "DIFFERENT") + f": {label}\n  {first_difference(*outcomes)}" + (f"\n  because {why}" if why else ""))
            different += not why
    print(f"{total} calls, {different} differ")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
