"""TensorBoard event files."""

import time
from pathlib import Path


class TensorBoard:
    """Writes event files to `tensorboard/` in a run folder while training."""

    def __init__(self, folder: Path):
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportMissingImports]
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportMissingImports]
        from tensorboard.summary.writer.event_file_writer import (  # pyright: ignore[reportMissingImports]
            EventFileWriter,
        )

        for old in (folder / "tensorboard").glob("events.out.tfevents.*"):
            old.unlink()  # a resumed training writes its first records again
        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder / "tensorboard"))

    def write(self, record: dict[str, int | float]) -> None:
        """Write a record of `lnz.fit` as scalars in nats per example."""
        scalars = [(name, value) for name, value in record.items() if name not in ("step", "seconds")]
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in scalars]
        event = self._event(step=int(record["step"]), wall_time=time.time(), summary=self._summary(value=values))
        self._writer.add_event(event)

    def close(self) -> None:
        self._writer.close()


def check_tensorboard() -> None:
    """**Raises:** `ImportError`, which names the extra to install, if it is missing."""
    try:
        import tensorboard.summary.writer  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(f'`--tensorboard` needs `pip install "lnz[tensorboard]"` ({error}).') from error
