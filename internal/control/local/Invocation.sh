#!/bin/sh
# Runs the script of a run on this computer; azureml-core starts it in the copy of the project. Any Python will do for that.
for python in {{python}} python3 python; do
	command -v "$python" >/dev/null 2>&1 && exec "$python" "$PWD/azureml-setup/run.py" >"$PWD/azureml-setup/run.log" 2>&1
done
echo 'there is no Python on this computer' | tee "$PWD/azureml-setup/run.log" >&2
exit 127
