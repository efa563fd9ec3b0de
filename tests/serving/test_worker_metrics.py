"""Several workers on one port: their numbers are joined, whichever of them is asked."""

import re
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

from serving_support import infer_body, make_release, running_server, wait_for, write_release

REQUESTS = 40


def test_the_numbers_of_all_workers_are_joined_whichever_is_asked(
    tmp_path: Path, free_port: int
) -> None:
    """Each connection goes to one of them; all tell the same, which is what was asked of all."""
    write_release(tmp_path / "release.json", make_release(tmp_path))
    with running_server(tmp_path, free_port, "--workers", "2") as server:

        def metrics() -> str:
            return urlopen(f"{server.url}/metrics", timeout=20).read().decode()  # noqa: S310

        ready = re.compile(r'mlops_endpoint_ready\{worker="\d"\} 1\n')
        wait_for(lambda: len(ready.findall(metrics())) == 2)
        workers: Counter[str] = Counter()
        for _ in range(REQUESTS):
            status, _ = server.call("POST", "/v2/models/flights/infer", infer_body(2))
            assert status == 200
        wanted = f'mlops_endpoint_rows_total{{version="1",role="champion"}} {2 * REQUESTS}\n'
        for _ in range(20):
            text = metrics()
            assert wanted in text
            assert f"mlops_endpoint_request_seconds_count {REQUESTS}\n" in text
            workers.update(
                re.findall(r'mlops_endpoint_release_revision\{worker="(\d)"\} 1\n', text)
            )
        assert workers == {"0": 20, "1": 20}
        answered = [path for path in server.log_dir.glob("*.jsonl") if path.stat().st_size]
    assert len(answered) == 2  # by both of them
