"""The smallest run there is, for tests that start processes."""

from tttlrm_jax.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    RasterConfig,
    RuleConfig,
    RunConfig,
    SyntheticConfig,
    TrainConfig,
)

CONFIG = RunConfig(
    name="tiny",
    model=ModelConfig(
        d_model=8, num_layers=1, attention_head_dim=4, rule=RuleConfig.of("muon", steps=1),
        sh_degree=0, patch_size=4,
        ttt_inner_factor=1.0, mlp_factor=1.0, newton_schulz_dtype="float32", max_distance=2.5,
        log_scale_offset=-2.5, log_scale_max=-1.5,
    ),
    raster=RasterConfig(near=0.1, backend="reference"),
    data=DataConfig(
        synthetic=SyntheticConfig(num_scenes=4, num_views=5, height=8, width=8, supersampling=1),
        num_input_views=4, num_target_views=1, render_workers=1, num_threads=0,
    ),
    loss=LossConfig(opacity=0.002, depth=0.0),
    optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=0),
    train=TrainConfig(
        num_steps=8, batch_size=2, log_every=1, eval_every=8, eval_scenes=2, checkpoint_every=4
    ),
)  # fmt: skip
