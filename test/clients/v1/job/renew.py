"""Lives longer than the token that it was started with: the client believes that it ends within seconds, and gets another."""

import os
import time

os.environ["AZUREML_RUN_TOKEN_EXPIRY"] = str(int(time.time()) + 20)

from azureml.core import Run  # noqa: E402
from azureml.core.authentication import AzureMLTokenAuthentication  # noqa: E402

first = os.environ["AZUREML_RUN_TOKEN"]
run = Run.get_context(allow_offline=False)
auth = run.experiment.workspace._auth_object
run.log("before", 1)
end = time.monotonic() + 60
while auth.expiry_time.timestamp() < time.time() + 60 and time.monotonic() < end:
    time.sleep(0.5)
assert isinstance(auth, AzureMLTokenAuthentication), auth
print("a new token:", auth.expiry_time.timestamp() > time.time() + 60, "another:", os.environ["AZUREML_RUN_TOKEN"] != first or auth.token != first, flush=True)
run.log("after", 2)
