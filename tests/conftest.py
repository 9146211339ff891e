"""What every test runs under."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "filterwarnings",
        # diffusers' schedulers, on setting sigmas: np.array() of a tensor
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    )
