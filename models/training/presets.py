"""Experiments by name: the paper's, as published, and the recipes of the embedded network."""

from dataclasses import replace

from models.network.config import EMBEDDED as EMBEDDED_NETWORK
from models.network.config import NoPoSplatConfig
from models.training.embedded import EmbeddedTraining
from models.training.network import NetworkTraining

_TWO_SETS = NetworkTraining(
    preset="re10k-dl3dv", data=("re10k", "dl3dv"), batch=8, scale_invariant=False
)
PRESETS = {
    preset.preset: preset
    for preset in (
        NetworkTraining(preset="re10k"),
        NetworkTraining(preset="acid", data=("acid",)),
        NetworkTraining(preset="dl3dv", data=("dl3dv",), scale_invariant=False),
        NetworkTraining(preset="re10k-3view", context=3, batch=8),
        _TWO_SETS,
        replace(
            _TWO_SETS,
            preset="re10k-dl3dv-512",
            data=("re10k-720p", "dl3dv-960p"),
            sizes=((512, 512),),
            batch=2,
        ),
        NetworkTraining(  # on one GPU of 48 GB
            preset="re10k-1x8",
            batch=8,
            learning_rate=1e-4,
            warmup_steps=2_000,
            total_steps=300_001,
            gap_steps=150_000,
        ),
    )
}
NETWORKS = {  # the published architecture in several sizes
    "published": NoPoSplatConfig(),
    "anchored": NoPoSplatConfig(
        encoder_width=384,
        encoder_depth=6,
        decoder_width=256,
        decoder_depth=6,
        trunk_widths=(32, 64, 96, 128),
        fusion_width=64,
        dropout=0.0,
        sh_degree=0,
        anchor_distance=1.0,
        pixel_color=True,
    ),
    "tiny": NoPoSplatConfig(
        encoder_width=96,
        encoder_depth=3,
        decoder_width=96,
        decoder_depth=3,
        attention_head_width=24,
        trunk_widths=(16, 24, 32, 48),
        fusion_width=24,
        dropout=0.0,
        sh_degree=0,
    ),
}
EMBEDDED = {  # frozen on a CPU, all of it on a GPU; and to rehearse
    "cpu": EmbeddedTraining(),
    "gpu": EmbeddedTraining(
        encoder_lr_scale=0.05,
        batch=32,
        batches_per_draw=4,
        steps_per_batch=4,
        buffer_size=8,
        warmup_steps=1_000,
        total_steps=60_000,
    ),
    "tiny": EmbeddedTraining(
        network=replace(
            EMBEDDED_NETWORK,
            decoder_width=64,
            decoder_depth=2,
            trunk_widths=(16, 16, 24, 32),
            fusion_width=16,
        ),
        sizes=((70, 70), (56, 84), (84, 56)),
        batch=2,
        fit_steps=8,
        chunk_worlds=3,
        chunk_views=3,
        first_chunks=2,
        warmup_steps=10,
        total_steps=2_000,
        texture_count=100,
        texture_size=64,
    ),
}
