"""litellm, unmodified, by its `api_base`; and langchain's image wrapper. Both in an environment of
their own, because they pin older versions of what Ray and the tests need."""

from pathlib import Path

import pytest

from tests.clients.conftest import PYTHON, Call
from tests.clients.pictures import (
    BLUE,
    ORANGE,
    check_right_half_is_kept,
    clear_left_half,
    in_base64,
    png,
    warmth,
)

# Else litellm looks for a newer list of prices on the internet whenever it is imported.
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@pytest.fixture
def ask(run_client: Call, client_python: Path) -> Call:
    return lambda name, **env: run_client(
        client_python, PYTHON / "calls.py", name, **OFFLINE, **env
    )


def test_generate(ask: Call) -> None:
    answer = ask("litellm_generate")
    made = [in_base64(item["b64_json"]) for item in answer["data"]]
    assert [(image.format, image.size) for image in made] == [("JPEG", (160, 104))] * 2


def test_async_by_a_name_of_openais(ask: Call) -> None:
    [item] = ask("litellm_async")["data"]
    assert in_base64(item["b64_json"]).size == (128, 128)


def test_an_edit_starts_from_the_picture(ask: Call) -> None:
    [item] = ask("litellm_edit", PICTURE=png(ORANGE))["data"]
    assert warmth(in_base64(item["b64_json"])) > 40


def test_an_edit_with_a_mask_leaves_the_rest_alone(ask: Call) -> None:
    [item] = ask("litellm_edit_with_mask", PICTURE=png(BLUE), MASK=clear_left_half())["data"]
    check_right_half_is_kept(in_base64(item["b64_json"]), BLUE)


def test_what_is_refused_says_why(ask: Call) -> None:
    refused = ask("litellm_refused")
    assert (refused["failure"], refused["status"]) == ("BadRequestError", 400)
    assert "n:" in refused["message"]
    missing = ask("litellm_unknown_model")
    assert (missing["failure"], missing["status"]) == ("NotFoundError", 404)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("langchain_defaults", [(128, 128)]), ("langchain_dalle_3", [(168, 96)] * 2)],
)
def test_langchains_wrapper_gives_addresses_of_pictures(
    ask: Call, name: str, sizes: list[tuple[int, int]]
) -> None:
    """DALL-E's names mean `url` where nothing is said. The wrapper hands on nothing else."""
    addresses = ask(name)
    heads, encoded = zip(*(address.split(",") for address in addresses), strict=True)
    assert set(heads) == {"data:image/png;base64"}
    made = [in_base64(each) for each in encoded]
    assert [(image.format, image.size) for image in made] == [("PNG", size) for size in sizes]
    assert all(len(image.getcolors(2**16) or ()) > 1000 for image in made)
