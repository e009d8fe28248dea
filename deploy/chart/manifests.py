"""The plain manifests: what the chart renders of its defaults, for who has no Helm."""

from pathlib import Path

from deploy.chart.render import CHART, render

FOLDER = CHART.parent / "manifests"
_NAMESPACE = "sirdar"
_HEADER = "# Rendered from the chart's defaults by `make chart`; change the chart, not this.\n"


def manifests() -> dict[Path, str]:
    """The text of each file. Helm's own test is not among them."""
    found = {
        FOLDER / path: _HEADER + _tidy(text)
        for path, text in render({}, namespace=_NAMESPACE).items()
        if text.strip() and not path.startswith("tests/")
    }
    namespace = (
        f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {_NAMESPACE}\n  labels:\n"
        "    pod-security.kubernetes.io/enforce: restricted\n"
    )
    # kubectl applies files in the order of their names.
    found[FOLDER / "00-namespace.yaml"] = _HEADER + namespace
    return found


def _tidy(text: str) -> str:
    """Without blank lines, and without what only Helm needs."""
    lines = [line.rstrip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.lstrip().startswith("helm.sh/chart:")]
    text = "\n".join(kept).replace("managed-by: Helm", "managed-by: kubectl")
    return text.removeprefix("---\n") + "\n"
