"""schemathesis, as its users run it: requests made from the OpenAPI document, good and bad ones."""

import subprocess
from pathlib import Path

from tests.integration.application import BIN, Application

# Three of its checks are left out: a document cannot say which sizes a model has, or which fields go
# together; and it has no pages, which some paths with a POST have for a GET.
CHECKS = ("positive_data_acceptance", "unsupported_method", "allow_header_conformance")


def test_every_answer_is_one_that_the_document_has(
    application: Application, tmp_path: Path
) -> None:
    before = {process.pid for process in application.actors("Serve")}
    ran = subprocess.run(
        [
            *(BIN / "schemathesis", "run", f"{application.url}/openapi.json", "--seed", "7"),
            *("--max-examples", "5", "--continue-on-failure", "--no-shrink"),
            *("--exclude-checks", ",".join(CHECKS), "--request-timeout", "60", "--workers", "4"),
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
