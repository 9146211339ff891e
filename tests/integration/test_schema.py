"""schemathesis, as its users run it: requests made from the OpenAPI document, good and bad ones."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.application import BIN, Application

# Three of its checks are left out: a document cannot say which sizes a model has, or which fields
# go together; and it has no pages, which some paths with a POST have for a GET.
CHECKS = ("positive_data_acceptance", "unsupported_method", "allow_header_conformance")


# Python 3.11 may fail to parse in several threads at once ("AST constructor recursion depth
# mismatch"), which hypothesis does to tell of what it draws.
@pytest.mark.parametrize(
    ("phases", "workers"), [("examples,coverage", 4), ("fuzzing", 1)], ids=["listed", "drawn"]
)
def test_every_answer_is_one_that_the_document_has(
    application: Application, tmp_path: Path, phases: str, workers: int
) -> None:
    before = {process.pid for process in application.actors("Serve")}
    ran = subprocess.run(
        [
            *(BIN / "schemathesis", "run", f"{application.url}/openapi.json", "--seed", "7"),
            *("--max-examples", "5", "--continue-on-failure", "--no-shrink"),
            *("--exclude-checks", ",".join(CHECKS), "--request-timeout", "60"),
            *("--phases", phases, "--workers", str(workers)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ran.returncode == 0, ran.stdout
    assert "11 selected / 11 total" in ran.stdout
    assert application.steps_run() > 0
    assert {process.pid for process in application.actors("Serve")} == before
