"""What all tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from aml_tool_core.logs import RedactingFormatter

TESTS = Path(__file__).parent
# These measure nothing that a busy machine would change: `make test` runs them several at a time (the mark `together`).
TOGETHER = (
    "by_image/aml_olive_optimizer",
    "by_image/aml_online_endpoints_deleter",
    "by_image/aml_online_endpoints_deployer",
    "by_image/jobs",
    "by_image/test_every_image.py",
    "contract/aml_online_endpoints_deleter",
    "contract/aml_online_endpoints_deployer",
    "contract/aml_report",
    "contract/aml_tool_core_azure",
    "contract/aml_tuner",
    "contract/azureml_local/test_faults.py",
    "contract/azureml_local/test_jobs.py",
    "contract/azureml_local/test_life.py",
    "contract/azureml_local/test_metrics.py",
    "contract/azureml_local/test_resources.py",
    "contract/azureml_local/test_scoring.py",
    "contract/faults",
    "contract/job_templates",
    "contract/profilers/test_bad_input.py",
    "contract/profilers/test_demands.py",
    "contract/profilers/test_metrics_tab.py",
    "contract/profilers/test_nodes.py",
    "contract/profilers/test_sweep.py",
    "contract/schemas",
    "unit/aml_labench_profiler",
    "unit/aml_olive_optimizer",
    "unit/aml_online_endpoints_deleter",
    "unit/aml_online_endpoints_deployer",
    "unit/aml_report",
    "unit/aml_tool_core/",
    "unit/aml_tool_core_azure",
    "unit/aml_tool_core_profiling",
    "unit/aml_tool_core_report_page",
    "unit/aml_tuner",
    "unit/aml_wrk2_profiler",
    "unit/aml_wrk_profiler",
    "unit/azureml_local",
    "unit/chain",
    "unit/metronome/test_native.py",
    "unit/minilm_example",
    "unit/run_job",
    "unit/sku_sweep",
)

# These measure, but load a machine so little that two at a time do not disturb one another (the mark `pairs`). What is
# not named here or above, whatever is new among it, has the machine to itself.
PAIRS = (
    "contract/profilers/test_open_loop.py",
    "contract/profilers/test_resume.py",
    "contract/profilers/test_run.py",
    "contract/profilers/test_search.py",
    "contract/profilers/test_upstream_engines.py",
    "unit/metronome/test_behaviours.py",
    "unit/metronome/test_command.py",
    "unit/metronome/test_schedules.py",
    "unit/metronome/test_tls.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Hold no example of a property test against a clock: the machine may be busy."""
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import settings

        settings.register_profile("without deadline", deadline=None)
        settings.load_profile("without deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what may run beside what."""
    for item in items:
        place = item.path.relative_to(TESTS).as_posix()
        if place.startswith(TOGETHER):
            item.add_marker(pytest.mark.together)
        elif place.startswith(PAIRS):
            item.add_marker(pytest.mark.pairs)


@pytest.fixture(autouse=True)
def _log_handlers_go_with_their_test() -> Iterator[None]:
    """A tool run in this process configures logging onto the stderr of its own test, which is closed afterwards."""
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, RedactingFormatter):
            root.removeHandler(handler)
