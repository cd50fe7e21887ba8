"""Several streams of requests at once, as the workers of a server are.

Each is a process of its own with its own copy of the artefact, and sends its next batch when the last one is answered.
`stream` runs in such a process; `measure_streams` starts them.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasbench.deploy.process import ask
from nasbench.models import load_compiled, read_description
from nasbench_compression.compilation.child import ChildError
from nasbench_compression.timing import take_turns
from search_spaces import Task

WARMUP = 10  # calls of each stream before the common start
LEAD_S = 0.3  # seconds from the moment when the last stream is ready to the common start
LOOK_S = 0.02  # seconds between two looks whether all streams are ready


@dataclass(frozen=True)
class Streams:
    """The latency and the throughput of several streams.

    Attributes:
        streams: Number of streams.
        batch: Images of one request.
        throughput_per_s: Images a second of all streams together, answered within the common time.
        median_ms: Median latency of a request, over all streams.
        p95_ms: 95th percentile of the latency of a request.
        requests: Number of requests that were answered.
        seconds: Seconds of the common time.
    """

    streams: int
    batch: int
    throughput_per_s: float
    median_ms: float
    p95_ms: float
    requests: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def measure_streams(
    folder: Path,
    setting: Mapping[str, Any] | None,
    streams: int,
    *,
    batch: int,
    seconds: float,
    timeout_s: float = 600.0,
) -> Streams:
    """Latency and throughput while so many streams ask at the same time.

    Args:
        folder: Folder of a stored network, or of a compiled artefact.
        setting: Setting in which a network is compiled, as `Setting.to_json` gives it; None for an artefact.
        streams: Number of streams at the same time.
        batch: Images of one request.
        seconds: Seconds of common time.
        timeout_s: Seconds for all of it, compilation included.

    Raises:
        ChildError: a stream could not begin, or died; the message says why.
    """
    answers: list[dict[str, Any]] = []
    failures: list[ChildError] = []
    with tempfile.TemporaryDirectory() as place:

        def run(number: int) -> None:
            request = {
                "folder": str(folder),
                "setting": None if setting is None else dict(setting),
                "batch": batch,
                "seconds": seconds,
                "place": place,
                "number": number,
            }
            try:
                answers.append(ask("nasbench.deploy.streams:stream", request, timeout_s))
            except ChildError as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(streams)]
        for thread in threads:
            thread.start()
        _start_together(Path(place), streams, failures)
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    latencies = np.concatenate([np.array(result["seconds"]) for result in answers])
    return Streams(
        streams,
        batch,
        batch * len(latencies) / seconds,
        float(np.median(latencies)) * 1000,
        float(np.percentile(latencies, 95)) * 1000,
        len(latencies),
        seconds,
    )


def _start_together(place: Path, streams: int, failures: list[ChildError]) -> None:
    """Tell all streams a moment to begin at, when all are ready; one that failed lets the others end at once."""
    while len(list(place.glob("ready.*"))) < streams and not failures:
        time.sleep(LOOK_S)
    aside = place / "aside"
    aside.write_text(str(0.0 if failures else time.time() + LEAD_S), encoding="utf-8")
    aside.rename(place / "start")


def stream(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer the request of `measure_streams`, in the child: the seconds of its calls."""
    from nasbench.deploy.attempt import compiled_again

    folder, place = Path(request["folder"]), Path(request["place"])
    setting = request["setting"]
    compiled = load_compiled(folder) if setting is None else compiled_again(str(folder), setting)
    task = Task.from_json(read_description(folder)["task"])
    images = task.one_input(request["batch"], seed=0).numpy()
    for _ in range(WARMUP):
        compiled(images)
    (place / f"ready.{request['number']}").touch()
    start = place / "start"
    while not start.exists():
        time.sleep(LOOK_S / 4)
    begin = float(start.read_text(encoding="utf-8"))
    if begin == 0.0:
        return {"seconds": []}
    end = begin + float(request["seconds"])
    compiled(images)  # the caches are warm again
    time.sleep(max(0.0, begin - time.time()))
    # One turn, as long as the common time.
    turns = take_turns([lambda: compiled(images)], lambda turns, spent_s: True, turn_s=end - time.time(), cold=False)
    seconds = turns[0][0].tolist()
    if len(seconds) > 1 and time.time() > end:
        seconds.pop()  # answered when the common time was over
    return {"seconds": seconds}
