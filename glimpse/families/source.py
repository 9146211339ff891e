"""Where a model's weights are. Loads torch alone: decoders have no use for the rest of a family."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where weights are, a folder or a hub's name, and how to hold them.

    `revision` is a commit, branch or tag of the hub's repository; a folder has none. `vae_folder`
    is the subfolder with the full VAE, None where the VAE is all that `path` has.
    """

    path: str
    variant: str | None
    revision: str | None
    dtype: torch.dtype
    device: torch.device
    vae_folder: str | None = "vae"

    @classmethod
    def of(
        cls,
        path: str,
        *,
        variant: str | None,
        revision: str | None,
        dtype: str,
        device: str,
        vae_folder: str | None = "vae",
    ) -> "ModelSource":
        """From names; the device `auto` is cuda where this process has one."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(path, variant, revision, getattr(torch, dtype), torch.device(device), vae_folder)

    def part(self, loader: Any, subfolder: str | None) -> Any:
        """A part of a pipeline, ready to run: `loader` is a class of diffusers or transformers.

        Raises `OSError` where the weights are not there as safetensors. The older formats are
        pickles, which run whatever code their author put in.
        """
        options: dict[str, Any] = {
            "variant": self.variant,
            "revision": self.revision,
            "use_safetensors": True,
        }
        if subfolder is not None:
            options["subfolder"] = subfolder
        try:
            module = loader.from_pretrained(self.path, dtype=self.dtype, **options)
        except OSError as failure:
            if ".safetensors" not in str(failure):
                raise
            raise OSError(self._no_safetensors(subfolder)) from failure
        return module.to(self.device).eval()

    def _no_safetensors(self, subfolder: str | None) -> str:
        where = self.path if subfolder is None else f"{subfolder} of {self.path}"
        which = "" if self.variant is None else f" of the variant {self.variant}"
        return (
            f"{where}: there are no weights{which} in safetensors files. Other formats (.bin, "
            ".ckpt) are not loaded, because they can run code. Load them where you trust them, and "
            "write them with save_pretrained (docs/operating.md)."
        )
