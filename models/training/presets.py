"""Experiments by name: the paper's, as published, and those of the embedded network."""

from dataclasses import replace

from models.network.config import SMALL, NoPoSplatConfig
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
NETWORKS = {  # the published architecture in several sizes, and the embedded variant of it
    "published": NoPoSplatConfig(),
    "embedded": SMALL,
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
_EMBEDDED = NetworkTraining(
    preset="embedded",
    weights_name="nps-small",
    data=(),
    network=SMALL,
    # Whole photos of 9:16 to 16:9, all with about as many pixels.
    sizes=((256, 256), (224, 288), (288, 224), (192, 336), (336, 192), (208, 304), (304, 208)),
    targets=1,
    batch=64,
    batches_per_draw=4,
    steps_per_batch=4,
    buffer_size=8,
    warmup_steps=1_000,
    total_steps=60_000,
    learning_rate=4e-4,
    pretrained_lr_scale=1.0,
    min_lr_fraction=0.01,
    clip_norm=1.0,
    max_norm=100.0,
    averaged=True,
    render_from=None,
    center_weight=1.0,
    unit="free",
    bfloat16_heads=True,
    recompute=False,
    artifacts=0.7,
    texture_size=256,
    half_precision=True,
)
EMBEDDED = {  # on a GPU, and to rehearse that on a CPU
    "embedded": _EMBEDDED,
    "embedded-tiny": replace(
        _EMBEDDED,
        preset="embedded-tiny",
        network=replace(
            SMALL,
            encoder_width=96,
            encoder_depth=2,
            decoder_width=64,
            decoder_depth=2,
            attention_head_width=32,
            trunk_widths=(16, 16, 24, 32),
            fusion_width=16,
        ),
        sizes=((64, 64), (48, 80), (80, 48)),
        batch=2,
        batches_per_draw=2,
        steps_per_batch=2,
        buffer_size=3,
        warmup_steps=10,
        total_steps=2_000,
        texture_count=100,
        texture_size=64,
    ),
}
