"""Sizes of virtual machines."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from azureml_local.models.vm_sizes import vm_sizes
from azureml_local.responses.envelope import check_subscription
from azureml_local.responses.paths import LOCATION


async def list_sizes(request: Request) -> JSONResponse:
    """List all sizes; every location has the same."""
    check_subscription(request)
    sizes = [
        {
            "name": size.name,
            "family": size.family,
            "vCPUs": size.vcpus,
            "memoryGB": size.memory_gib,
            "gpus": size.gpus,
            "premiumIO": True,
            "lowPriorityCapable": False,
            "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
        }
        for size in vm_sizes().values()
    ]
    return JSONResponse({"value": sizes})


ROUTES = [Route(f"{LOCATION}/vmSizes", list_sizes, methods=["GET"])]
