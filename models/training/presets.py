"""The paper's experiments by name, with the settings that its authors published."""

from dataclasses import replace

from models.network.noposplat import SMALL, NoPoSplatConfig
from models.training.rendering import RenderTraining

_TWO_SETS = RenderTraining(
    preset="re10k-dl3dv", data=("re10k", "dl3dv"), batch=8, scale_invariant=False
)
PRESETS = {
    preset.preset: preset
    for preset in (
        RenderTraining(preset="re10k"),
        RenderTraining(preset="acid", data=("acid",)),
        RenderTraining(preset="dl3dv", data=("dl3dv",), scale_invariant=False),
        RenderTraining(preset="re10k-3view", context=3, batch=8),
        _TWO_SETS,
        replace(
            _TWO_SETS,
            preset="re10k-dl3dv-512",
            data=("re10k-720p", "dl3dv-960p"),
            sizes=((512, 512),),
            batch=2,
        ),
        RenderTraining(  # on one GPU of 48 GB
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
    "small": NoPoSplatConfig(
        encoder_width=384,
        encoder_depth=6,
        decoder_width=256,
        decoder_depth=6,
        trunk_widths=(32, 64, 96, 128),
        fusion_width=64,
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
