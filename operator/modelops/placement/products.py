"""GPUs by the name people and labels give them, for planning without a cluster."""

from dataclasses import dataclass

from modelops.plan import Reason

MIB = 2**20
PREFIXES = ("nvidia-", "tesla-", "geforce-")


@dataclass(frozen=True, slots=True)
class Product:
    """One GPU product; memory is what the label ``nvidia.com/gpu.memory`` says."""

    name: str
    memory_mib: int
    capability: tuple[int, int]
    labels: tuple[str, ...] = ()
    """Further values of the label ``nvidia.com/gpu.product``, in lower case without the vendor's name."""

    @property
    def memory_bytes(self) -> int:
        """Return the memory with the driver's reserve."""
        return self.memory_mib * MIB


PRODUCTS = (
    Product("T4", 15360, (7, 5)),
    Product("A10", 23028, (8, 6), ("a10g",)),
    Product("L4", 23034, (8, 9)),
    Product("RTX-4090", 24564, (8, 9), ("4090",)),
    Product("RTX-5090", 32607, (12, 0), ("5090",)),
    Product("A100-40", 40960, (8, 0), ("a100-sxm4-40gb", "a100-pcie-40gb", "a100-40gb")),
    Product("L40S", 46068, (8, 9)),
    Product("H100", 81559, (9, 0), ("h100-80gb-hbm3", "h100-pcie", "h100-80gb", "h100-sxm5-80gb", "h100-80")),
    Product("A100-80", 81920, (8, 0), ("a100-sxm4-80gb", "a100-80gb-pcie", "a100-pcie-80gb", "a100-80gb")),
    Product("H200", 143771, (9, 0), ("h200-141gb-hbm3e", "h200-141gb", "h200-sxm")),
    Product("B200", 183359, (10, 0)),
)
"""Source: research/engines.md 4.7 and 4.8."""


def product(name: str) -> Product | Reason:
    """Return the GPU of that short name or label, in any letter case, with spaces or hyphens.

    Shares and MIG slices have the product's name and other memory, so they are refused.
    """
    wanted = "-".join(name.lower().replace("_", "-").split())
    for _ in PREFIXES:
        wanted = next((wanted.removeprefix(p) for p in PREFIXES if wanted.startswith(p)), wanted)
    for known in PRODUCTS:
        if wanted == known.name.lower() or wanted in known.labels:
            return known
    return Reason(
        "GpuUnknown",
        f"--gpu: needs one of {', '.join(known.name for known in PRODUCTS)}, found {name or 'nothing'}; "
        "give --gpu-memory-mib with the number of the label nvidia.com/gpu.memory instead",
    )
