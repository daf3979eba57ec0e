"""Will Azure still have the VM sizes of the settings? What it takes away, and when, is data (retired.yaml)."""

from scripts import retired, tiers
from scripts.doctor.context import Context
from scripts.errors import InvalidInput
from scripts.settings import Settings


def check(context: Context) -> str:
    """Raises InvalidInput naming each size that is gone, or that its tier does not run on; what will go is told."""
    gone, going, fine = [], [], []
    today = retired.today()
    for where, size in sizes_of(context.settings).items():
        found = retired.retirement(size, retired.load())
        if found is None:
            fine.append(size)
        elif found.date <= today:
            instead = found.instead or "another"
            gone.append(f"{where} {size} is retired in Azure since {found.date} ({found.source}), use {instead}")
        else:
            going.append(f"{size} goes on {found.date}")
    if gone:
        raise InvalidInput(f"{context.config}: {'; '.join(gone)}.")
    tiers.check_size(context.settings)
    return "; ".join([f"no retirement is announced of {' and '.join(sorted(set(fine)))}"] * bool(fine) + going)


def sizes_of(settings: Settings) -> dict[str, str]:
    """By the setting that asks for it."""
    return {"compute.size": settings.compute.size, "serving.instance_type": settings.serving.instance_type}
