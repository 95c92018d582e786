"""TensorBoard over a sweep, as a person opens it: started on a free port, its pages read in a real browser."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import browser
from conftest import Workplace

DIMS = (8, 16)


@dataclass(frozen=True)
class Server:
    """A running TensorBoard."""

    address: str

    def data(self, path: str, content: Any = None) -> Any:
        """What an endpoint answers, JSON or text."""
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.address}/data/{path}", data=body)
        if body is not None:
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read().decode()
        return json.loads(text) if text[:1] in "[{" else text


@contextmanager
def tensorboard(logs: Path, *, num_runs: int) -> Iterator[Server]:
    """`tensorboard --logdir LOGS`, once it has read so many runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--logdir", str(logs), "--port", str(port), "--host", "127.0.0.1"]
    server = Server(f"http://127.0.0.1:{port}")
    with subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    if len(server.data("runs")) >= num_runs:
                        break
                except OSError:
                    assert process.poll() is None, "TensorBoard ended by itself"
                time.sleep(0.3)
            yield server
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def sweep(workplace: Workplace) -> Path:
    place = workplace.root / "board"
    dims = ",".join(map(str, DIMS))
    outcome = workplace.train(f"model.embedding_dim={dims}", f"hydra.sweep.dir={place}", sweep=True)
    assert outcome.code == 0, outcome.err
    return place


def rows_of(server: Server) -> list[dict[str, Any]]:
    """Columns and figures of every row of HParams."""
    asked = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS", "STATUS_UNKNOWN"], "sliceSize": 100}
    found = server.data("plugin/hparams/session_groups", {**asked, "colParams": [], "startIndex": 0})
    return [
        {**group["hparams"], **{value["name"]["tag"]: value["value"] for value in group["metricValues"]}}
        for group in found["sessionGroups"]
    ]


@pytest.mark.slow
def test_the_pages_of_tensorboard_show_a_sweep(sweep: Path):
    with browser() as started, tensorboard(sweep, num_runs=4) as server:
        # What the pages read.
        rows = rows_of(server)
        assert sorted(row["model.embedding_dim"] for row in rows) == list(DIMS)
        metrics = [json.loads((sweep / str(job) / "metrics.json").read_text()) for job in range(2)]
        by_dim = {row["model.embedding_dim"]: row for row in rows}
        for dim, found in zip(DIMS, metrics, strict=True):
            assert by_dim[dim]["result/test_ndcg@20"] == pytest.approx(found["test"]["ndcg@20"]["mean"])
            assert by_dim[dim]["cost/seconds"] > 0
        names = [
            info["name"] for info in server.data("plugin/hparams/experiment", {"experimentName": ""})["hparamInfos"]
        ]
        assert names[0] == "model.embedding_dim"  # what differs comes first
        run = "0/tensorboard"
        scalars = server.data("plugin/scalars/tags")
        assert {tag.split("/")[0] for tag in scalars[run]} == {"train", "val", "test", "optim", "speed", "memory"}
        for tag in scalars[run]:
            steps = [step for _, step, _ in server.data(f"plugin/scalars/scalars?run={run}&tag={tag}")]
            assert steps == sorted(set(steps)), tag
        images = server.data("plugin/images/tags")[run]
        assert len(images) >= 3
        assert {"run/config", "run/data", "run/test"} <= set(server.data("plugin/text/tags")[run])
        about = server.data(f"plugin/projector/metadata?run={run}&name=items").splitlines()
        assert about[0].startswith("title\titem_id\t") and len(about) == 201

        # The pages themselves.
        page = started.new_page(viewport={"width": 1500, "height": 1000})
        page.goto(f"{server.address}/#hparams")
        page.get_by_text("TABLE VIEW").wait_for()
        page.get_by_text("16.000").first.wait_for()
        for word in ("model.embedding_dim", "result/test_ndcg@20", "cost/rows_per_s"):
            assert page.get_by_text(word).count(), word
        page.goto(f"{server.address}/#timeseries")
        page.get_by_text("Pinned").wait_for()
        page.get_by_text("0/tensorboard").first.wait_for()
        page.get_by_role("combobox", name="Filter tags (regex)").fill("val/ndcg@20|train/loss$")
        page.get_by_text("val/ndcg@20").last.wait_for()
        page.goto(f"{server.address}/#images")
        page.locator("img").first.wait_for()
        page.wait_for_function(
            "() => { const seen = []; const walk = (n) => { if (n.tagName === 'IMG') seen.push(n.naturalWidth);"
            "(n.shadowRoot ? [...n.shadowRoot.childNodes] : []).concat([...n.childNodes]).forEach(walk); };"
            "walk(document.body); return seen.filter((width) => width > 300).length >= 3; }"
        )
        page.goto(f"{server.address}/#text")
        page.get_by_text("_target_: towerrec.data.sources.demo.Demo").first.wait_for()
        page.goto(f"{server.address}/#histograms")
        page.get_by_text("norms/items").first.wait_for()
        page.goto(f"{server.address}/#projector")
        inside = page.frame_locator("iframe").frame_locator("iframe")
        inside.locator(".numDataPoints", has_text="200").wait_for()
        inside.locator(".dim", has_text="8").wait_for()
