"""The two ways things go wrong: a request the service refuses, and a mistake of whoever starts the emulator."""

from __future__ import annotations


class ArmError(Exception):
    """A refusal in Azure's shape: an HTTP `status` with `{"error": {"code", "message", "target", "details"}}`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def body(self) -> dict[str, object]:
        return {"error": {"code": self.code, "message": self.message, "target": None, "details": []}}


class EmulatorError(Exception):
    """A user's mistake in starting or stopping the emulator; str() is the one sentence to print (exit code 3)."""
