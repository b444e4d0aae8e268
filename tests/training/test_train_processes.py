"""Several processes train as one does, started as `torchrun` starts them, on chunks, with gloo."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from chunk_factory import make_root
from tiny_weights import ABOUT

from models.network.noposplat import NoPoSplat
from models.training.loop import LOG
from models.training.presets import NETWORKS
from models.training.run import CHECKPOINT, resume
from models.weights import save_network
from nps_cli.commands.train import paper

CPU = torch.device("cpu")
SETTINGS = {"size": "48x32", "steps": 2, "learning_rate": 5e-3, "workers": 0}
REST = {"log_every": 1, "pictures": 0, "device": "cpu"}


def train_together(folder: Path, processes: int) -> None:
    """Each process gets the environment that `torchrun --nproc-per-node N` would give it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        word
        for name, value in (SETTINGS | REST).items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    options += ["--data", str(folder / "data"), "--init", str(folder / "init.safetensors")]
    options += ["--batch", "1", "--out", str(folder / "two")]
    command = [sys.executable, "-m", "nps_cli", "train", "paper", *options]
    common = {
        **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes),
    }  # fmt: skip
    started = [
        subprocess.Popen(
            command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(processes)
    ]  # fmt: skip
    for process in started:
        _, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    make_root(folder / "data", scenes=4)
    torch.manual_seed(0)
    network = NoPoSplat(replace(NETWORKS["tiny"], anchor_distance=2.0))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    save_network(network, folder / "init.safetensors", ABOUT)
    one = {**SETTINGS, **REST, "size": [SETTINGS["size"]]}
    init = folder / "init.safetensors"
    paper(out=folder / "one", data=[str(folder / "data")], batch=2, init=init, **one)
    train_together(folder, 2)
    return folder


def test_two_processes_find_the_weights_and_losses_of_one(trained: Path):
    one, two = (
        torch.load(trained / name / CHECKPOINT, weights_only=True) for name in ("one", "two")
    )
    alone, together = (
        [json.loads(line) for line in (trained / name / LOG).read_text().splitlines()]
        for name in ("one", "two")
    )

    assert (one["config"]["batch"], two["config"]["batch"]) == (2, 1)
    assert one["step"] == two["step"] == len(alone) == len(together) == 2
    moments = [run["optimizer"]["state"] for run in (one, two)]
    assert max(float(state["exp_avg"].abs().max()) for state in moments[0].values()) > 1e-3
    for index, state in moments[0].items():  # the average gradient, as both optimizers saw it
        torch.testing.assert_close(
            moments[1][index]["exp_avg"], state["exp_avg"], rtol=0, atol=1e-5
        )
    weights, others = (
        torch.cat([w.flatten() for w in run["network"].values()]) for run in (one, two)
    )
    # AdamW turns gradients that are nothing but rounding into whole steps: those may differ.
    differ = (weights - others).abs() > 1e-5
    assert differ.float().mean() < 0.01
    for first, second in zip(alone, together, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-5)
        assert second["samples"] == first["samples"]
    assert alone[0]["gradient_norm"] > 0.01 and alone[0]["loss"] < 0.2


def test_a_run_of_two_processes_is_not_resumed_by_one(trained: Path):
    with pytest.raises(ValueError, match="2 processes, not 1"):
        resume(trained / "two" / CHECKPOINT, CPU)
