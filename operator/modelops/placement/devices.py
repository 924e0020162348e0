"""What a node's labels say about the GPUs, shares and MIG slices that it offers pods.

Source: NVIDIA's device plugin and GPU feature discovery 0.20; research/engines.md 5.1, 5.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from modelops.engines.base import Gpu

MIB = 2**20
PREFIX = "nvidia.com/"
GPU_RESOURCE = "nvidia.com/gpu"
MIG_RESOURCE = "nvidia.com/mig-"
RENAMED = ".shared"
"""End of the resource of shares, where the device plugin renames them."""
PRODUCT_LABEL = "nvidia.com/gpu.product"
CUT, SHARED, INVALID = "-MIG-", "-SHARED", "-MIG-INVALID"
"""Parts of products.  Invalid: strategy single found GPUs that are not cut up alike."""


@dataclass(frozen=True, slots=True)
class Device:
    """One kind of GPU, share or slice on a node: what a pod asks for, and what it gets."""

    resource: str
    gpu: Gpu | None = None
    """None: no label tells."""
    profile: str = ""
    """MIG profile; empty: not a slice."""


def devices(
    labels: Mapping[str, str], allocatable: Mapping[str, int], memory_bytes: int | None = None
) -> tuple[Device, ...]:
    """Return what NVIDIA's device plugin offers there, the plain resource first, also where it has none left.

    *memory_bytes* is that of a whole GPU, for nodes without the label.
    """
    offered = {resource for resource, count in allocatable.items() if count}
    plain = _Labels(labels, GPU_RESOURCE, memory_bytes)
    renamed = GPU_RESOURCE + RENAMED in offered
    found = [plain.device(GPU_RESOURCE, is_shared=False if renamed else None)]
    if renamed:
        found.append(plain.device(GPU_RESOURCE + RENAMED, is_shared=True))
    for resource in sorted(offered):
        if resource.startswith(MIG_RESOURCE):
            name = resource.removesuffix(RENAMED)
            is_shared = True if resource != name else False if name + RENAMED in offered else None
            found.append(_Labels(labels, name, None).device(resource, is_shared=is_shared))
    return tuple(found)


def product_label(resource: str) -> str:
    """Return the label of a node that names the product behind *resource*."""
    name = resource.removesuffix(RENAMED)
    return f"{name}.product" if name.startswith(MIG_RESOURCE) else PRODUCT_LABEL


def profile_of(resource: str, product: str) -> str:
    """Return the MIG profile that a resource or a product names; empty: neither is a slice.

    A plus sign is not allowed in a resource, so the device plugin writes a dot for it.
    """
    if resource.startswith(MIG_RESOURCE):
        return same_profile(resource.removeprefix(MIG_RESOURCE).removesuffix(RENAMED))
    _, cut, profile = product.removesuffix(SHARED).partition(CUT)
    return same_profile(profile) if cut else ""


def same_profile(profile: str) -> str:
    """Return *profile* as all its spellings are compared."""
    head, dot, rest = profile.lower().replace("+", ".").partition("gb.")
    return f"{head}gb+{rest}" if dot else head


@dataclass(frozen=True, slots=True)
class _Labels:
    """The labels about one resource; those of the plain one tell of the chip too."""

    labels: Mapping[str, str]
    name: str
    memory_bytes: int | None

    def device(self, resource: str, *, is_shared: bool | None) -> Device:
        """Return the device; *is_shared* None: the labels decide."""
        product = self._text("product")
        profile = profile_of(resource, product)
        whole = 0 if profile else self.memory_bytes or 0
        memory_bytes = self._number("memory") * MIB or whole
        if not product or not memory_bytes:
            return Device(resource, None, profile)
        strategy = self._text("sharing-strategy")
        if is_shared is None:
            is_shared = strategy in ("time-slicing", "mps") or product.endswith(SHARED)
        shares = max(1, self._number("replicas")) if is_shared else 1
        major = self._chip("gpu.compute.major")
        driver = self._chip("cuda.driver-version.major") or self._chip("cuda.driver.major")
        gpu = Gpu(
            product=product,
            memory_bytes=memory_bytes // shares,
            capability=(major, self._chip("gpu.compute.minor")) if major else None,
            driver_major=driver or None,
            shares=shares,
            is_time_sliced=shares > 1 and strategy != "mps",
        )
        return Device(resource, gpu, profile)

    def _text(self, key: str) -> str:
        return self.labels.get(f"{self.name}.{key}", "")

    def _number(self, key: str) -> int:
        return _whole(self._text(key))

    def _chip(self, key: str) -> int:
        return _whole(self.labels.get(PREFIX + key, ""))


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() else 0
