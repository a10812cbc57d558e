"""The end: the machine is left as it was."""

from azureml.core.compute import ComputeTarget
from azureml.exceptions import ComputeTargetException

from computes import block
from kit import promise, refused
from machine import NAME, ws


@promise
def block_7_detaches_and_the_name_is_free():
    target = ComputeTarget(ws(), NAME)
    block(7, compute_target=target)
    target.wait_for_completion(is_delete_operation=True)
    assert NAME not in ws().compute_targets
    refused(lambda: ComputeTarget(ws(), NAME), "ComputeTargetNotFound", kind=ComputeTargetException)


@promise
def what_was_not_made_here_is_not_deleted():
    refused(lambda: ComputeTarget(ws(), "nowhere").detach(), "ComputeTargetNotFound", kind=ComputeTargetException)
