"""OpenVINO, imported so that it reports to nobody.

Importing it starts `openvino_telemetry` where that is installed, which writes
to the home folder and sends events. OpenVINO does without the package where it
is not there, so it is made not to be there: the only off switch besides a file
in each user's home.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402

__all__ = ["openvino"]
