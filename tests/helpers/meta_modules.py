"""The modules of Meta's SAM 3, one after the other: from transformers' weights to Meta's names.

Written by module rather than by pattern, so that it shares nothing with the table that it tests.
"""

from __future__ import annotations

import torch

State = dict[str, torch.Tensor]
VISION = "detector.backbone.vision_backbone"
LANGUAGE = "detector.backbone.language_backbone"


class _Writer:
    """Moves weights from our names to Meta's; what is left over was forgotten."""

    def __init__(self, ours: State) -> None:
        self.ours = dict(ours)
        self.meta: State = {}

    def move(self, meta: str, ours: str) -> None:
        """A module's weight and bias, as far as it has them."""
        leaves = [leaf for leaf in ("weight", "bias") if f"{ours}.{leaf}" in self.ours]
        assert leaves, ours
        for leaf in leaves:
            self.meta[f"{meta}.{leaf}"] = self.ours.pop(f"{ours}.{leaf}")

    def single(self, meta: str, ours: str) -> None:
        self.meta[meta] = self.ours.pop(ours)

    def fused(self, meta: str, ours: str, whole: str, out: tuple[str, str]) -> None:
        """An attention whose three projections are one tensor in Meta's file."""
        for leaf in ("weight", "bias"):
            parts = [self.ours.pop(f"{ours}.{letter}_proj.{leaf}") for letter in "qkv"]
            self.meta[f"{meta}.{whole}{leaf}"] = torch.cat(parts)
        self.move(f"{meta}.{out[0]}", f"{ours}.{out[1]}")

    def attention(self, meta: str, ours: str) -> None:
        self.fused(meta, ours, "in_proj_", ("out_proj", "o_proj"))

    def apart(self, meta: str, ours: str) -> None:
        """An attention with three projections of their own."""
        for letter in "qkv":
            self.move(f"{meta}.{letter}_proj", f"{ours}.{letter}_proj")
        self.move(f"{meta}.out_proj", f"{ours}.o_proj")

    def count(self, prefix: str) -> int:
        """How many layers there are under `prefix`."""
        found = {name[len(prefix) :].split(".")[0] for name in self.ours if name.startswith(prefix)}
        return len(found)

    def counted(self, meta: str, ours: str, count: int) -> None:
        """Meta counts the layers of an MLP from 0, transformers from 1."""
        for index in range(count):
            self.move(f"{meta}.layers.{index}", f"{ours}.layer{index + 1}")

    def ends(self, meta: str, ours: str) -> None:
        """An MLP of three layers whose first and last have names of their own in transformers."""
        for index, name in enumerate(("proj_in", "layers.0", "proj_out")):
            self.move(f"{meta}.layers.{index}", f"{ours}.{name}")


def meta_state(ours: State) -> State:
    """The same weights as `sam3.pt` has them, with what transformers has no place for."""
    writer = _Writer(ours)
    _vision(writer)
    _language(writer)
    _detector_heads(writer)
    _tracker(writer)
    assert not writer.ours, sorted(writer.ours)
    width = writer.meta["detector.geometry_encoder.final_proj.weight"].shape[0]
    for name in ("direct", "pool", "pos_enc"):
        for leaf in ("weight", "bias"):
            writer.meta[f"detector.geometry_encoder.points_{name}_project.{leaf}"] = torch.ones(
                (width, 2) if leaf == "weight" else (width,)
            )
    return writer.meta


def _vision(w: _Writer) -> None:
    ours, trunk = "detector_model.vision_encoder.backbone", f"{VISION}.trunk"
    positions = w.ours.pop(f"{ours}.embeddings.position_embeddings")
    token = torch.full_like(positions[:, :1], 7.0)
    w.meta[f"{trunk}.pos_embed"] = torch.cat([token, positions], dim=1)
    w.move(f"{trunk}.patch_embed.proj", f"{ours}.embeddings.patch_embeddings.projection")
    w.move(f"{trunk}.ln_pre", f"{ours}.layer_norm")
    for index in range(w.count(f"{ours}.layers.")):
        block, layer = f"{trunk}.blocks.{index}", f"{ours}.layers.{index}"
        w.move(f"{block}.norm1", f"{layer}.layer_norm1")
        w.move(f"{block}.norm2", f"{layer}.layer_norm2")
        w.fused(f"{block}.attn", f"{layer}.attention", "qkv.", ("proj", "o_proj"))
        w.move(f"{block}.mlp.fc1", f"{layer}.mlp.fc1")
        w.move(f"{block}.mlp.fc2", f"{layer}.mlp.fc2")
        w.meta[f"{block}.attn.freqs_cis"] = torch.zeros(4, 2, dtype=torch.complex64)
    for neck, name in (
        ("convs", "detector_model.vision_encoder.neck"),
        ("sam2_convs", "tracker_neck"),
    ):
        scales = (("dconv_2x2_0", "dconv_2x2_1"), ("dconv_2x2",), (), ())
        for level, names in enumerate(scales):
            target, source = f"{VISION}.{neck}.{level}", f"{name}.fpn_layers.{level}"
            for step, scale in enumerate(names):
                w.move(f"{target}.{scale}", f"{source}.scale_layers.{2 * step}")
            w.move(f"{target}.conv_1x1", f"{source}.proj1")
            w.move(f"{target}.conv_3x3", f"{source}.proj2")


def _language(w: _Writer) -> None:
    w.move(f"{LANGUAGE}.resizer", "detector_model.text_projection")
    ours, encoder = "detector_model.text_encoder", f"{LANGUAGE}.encoder"
    table = f"{ours}.text_model.embeddings"
    w.single(f"{encoder}.token_embedding.weight", f"{table}.token_embedding.weight")
    w.single(f"{encoder}.positional_embedding", f"{table}.position_embedding.weight")
    w.meta[f"{encoder}.text_projection"] = w.ours.pop(f"{ours}.text_projection.weight").T
    w.move(f"{encoder}.ln_final", f"{ours}.text_model.final_layer_norm")
    for index in range(w.count(f"{ours}.text_model.encoder.layers.")):
        layer = f"{ours}.text_model.encoder.layers.{index}"
        block = f"{encoder}.transformer.resblocks.{index}"
        w.fused(f"{block}.attn", f"{layer}.self_attn", "in_proj_", ("out_proj", "out_proj"))
        w.move(f"{block}.ln_1", f"{layer}.layer_norm1")
        w.move(f"{block}.ln_2", f"{layer}.layer_norm2")
        w.move(f"{block}.mlp.c_fc", f"{layer}.mlp.fc1")
        w.move(f"{block}.mlp.c_proj", f"{layer}.mlp.fc2")


def _layers(w: _Writer, meta: str, ours: str) -> None:
    """Layers of the geometry encoder and of the DETR encoder."""
    for index in range(w.count(f"{ours}.")):
        target, source = f"{meta}.{index}", f"{ours}.{index}"
        w.attention(f"{target}.self_attn", f"{source}.self_attn")
        w.attention(f"{target}.cross_attn_image", f"{source}.cross_attn")
        for number in (1, 2, 3):
            w.move(f"{target}.norm{number}", f"{source}.layer_norm{number}")
        w.move(f"{target}.linear1", f"{source}.mlp.fc1")
        w.move(f"{target}.linear2", f"{source}.mlp.fc2")


def _detector_heads(w: _Writer) -> None:
    ours, geometry = "detector_model.geometry_encoder", "detector.geometry_encoder"
    _layers(w, f"{geometry}.encode", f"{ours}.layers")
    for name in ("label_embed", "cls_embed", "final_proj"):
        w.move(f"{geometry}.{name}", f"{ours}.{name}")
    for name in ("direct", "pool", "pos_enc"):
        w.move(f"{geometry}.boxes_{name}_project", f"{ours}.boxes_{name}_project")
    w.move(f"{geometry}.img_pre_norm", f"{ours}.vision_layer_norm")
    w.move(f"{geometry}.norm", f"{ours}.prompt_layer_norm")
    w.move(f"{geometry}.encode_norm", f"{ours}.output_layer_norm")
    _layers(w, "detector.transformer.encoder.layers", "detector_model.detr_encoder.layers")
    _detr_decoder(w)
    ours, scoring = "detector_model.dot_product_scoring", "detector.dot_prod_scoring"
    w.counted(f"{scoring}.prompt_mlp", f"{ours}.text_mlp", 2)
    w.move(f"{scoring}.prompt_mlp.out_norm", f"{ours}.text_mlp_out_norm")
    w.move(f"{scoring}.prompt_proj", f"{ours}.text_proj")
    w.move(f"{scoring}.hs_proj", f"{ours}.query_proj")
    ours, head = "detector_model.mask_decoder", "detector.segmentation_head"
    for index in range(w.count(f"{ours}.pixel_decoder.conv_layers.")):
        for name in ("conv_layers", "norms"):
            w.move(f"{head}.pixel_decoder.{name}.{index}", f"{ours}.pixel_decoder.{name}.{index}")
    for index in range(3):
        mask = f"{head}.mask_predictor.mask_embed.layers.{index}"
        w.move(mask, f"{ours}.mask_embedder.layers.{index}")
    w.move(f"{head}.instance_seg_head", f"{ours}.instance_projection")
    w.move(f"{head}.semantic_seg_head", f"{ours}.semantic_projection")
    w.attention(f"{head}.cross_attend_prompt", f"{ours}.prompt_cross_attn")
    w.move(f"{head}.cross_attn_norm", f"{ours}.prompt_cross_attn_norm")


def _detr_decoder(w: _Writer) -> None:
    ours, decoder = "detector_model.detr_decoder", "detector.transformer.decoder"
    for index in range(w.count(f"{ours}.layers.")):
        target, source = f"{decoder}.layers.{index}", f"{ours}.layers.{index}"
        w.attention(f"{target}.self_attn", f"{source}.self_attn")
        w.attention(f"{target}.ca_text", f"{source}.text_cross_attn")
        w.attention(f"{target}.cross_attn", f"{source}.vision_cross_attn")
        w.move(f"{target}.norm1", f"{source}.vision_cross_attn_layer_norm")
        w.move(f"{target}.norm2", f"{source}.self_attn_layer_norm")
        w.move(f"{target}.norm3", f"{source}.mlp_layer_norm")
        w.move(f"{target}.catext_norm", f"{source}.text_cross_attn_layer_norm")
        w.move(f"{target}.linear1", f"{source}.mlp.fc1")
        w.move(f"{target}.linear2", f"{source}.mlp.fc2")
    for name in ("query_embed", "reference_points", "presence_token"):
        w.move(f"{decoder}.{name}", f"{ours}.{name}")
    w.counted(f"{decoder}.presence_token_head", f"{ours}.presence_head", 3)
    w.move(f"{decoder}.presence_token_out_norm", f"{ours}.presence_layer_norm")
    w.move(f"{decoder}.norm", f"{ours}.output_layer_norm")
    w.counted(f"{decoder}.bbox_embed", f"{ours}.box_head", 3)
    w.counted(f"{decoder}.ref_point_head", f"{ours}.ref_point_head", 2)
    w.counted(f"{decoder}.boxRPB_embed_x", f"{ours}.box_rpb_embed_x", 2)
    w.counted(f"{decoder}.boxRPB_embed_y", f"{ours}.box_rpb_embed_y", 2)


def _tracker(w: _Writer) -> None:
    ours, prompts = "tracker_model.prompt_encoder", "tracker.sam_prompt_encoder"
    w.ours.pop(f"{ours}.shared_embedding.positional_embedding")
    w.single(
        f"{prompts}.pe_layer.positional_encoding_gaussian_matrix",
        "tracker_model.shared_image_embedding.positional_embedding",
    )
    for index, name in ((0, "conv1"), (1, "layer_norm1"), (3, "conv2"), (4, "layer_norm2")):
        w.move(f"{prompts}.mask_downscaling.{index}", f"{ours}.mask_embed.{name}")
    w.move(f"{prompts}.mask_downscaling.6", f"{ours}.mask_embed.conv3")
    for kind, row in enumerate(w.ours.pop(f"{ours}.point_embed.weight")):
        w.meta[f"{prompts}.point_embeddings.{kind}.weight"] = row[None].clone()
    w.move(f"{prompts}.not_a_point_embed", f"{ours}.not_a_point_embed")
    w.move(f"{prompts}.no_mask_embed", f"{ours}.no_mask_embed")
    _mask_decoder(w, "tracker.sam_mask_decoder", "tracker_model.mask_decoder")
    _memory(w)


def _mask_decoder(w: _Writer, meta: str, ours: str) -> None:
    for name in ("iou_token", "mask_tokens", "obj_score_token", "conv_s0", "conv_s1"):
        w.move(f"{meta}.{name}", f"{ours}.{name}")
    for index in range(w.count(f"{ours}.transformer.layers.")):
        target, source = f"{meta}.transformer.layers.{index}", f"{ours}.transformer.layers.{index}"
        for name in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
            w.apart(f"{target}.{name}", f"{source}.{name}")
        for number in (1, 2, 3, 4):
            w.move(f"{target}.norm{number}", f"{source}.layer_norm{number}")
        w.move(f"{target}.mlp.lin1", f"{source}.mlp.proj_in")
        w.move(f"{target}.mlp.lin2", f"{source}.mlp.proj_out")
    last = "final_attn_token_to_image"
    w.apart(f"{meta}.transformer.{last}", f"{ours}.transformer.{last}")
    w.move(f"{meta}.transformer.norm_final_attn", f"{ours}.transformer.layer_norm_final_attn")
    w.move(f"{meta}.output_upscaling.0", f"{ours}.upscale_conv1")
    w.move(f"{meta}.output_upscaling.1", f"{ours}.upscale_layer_norm")
    w.move(f"{meta}.output_upscaling.3", f"{ours}.upscale_conv2")
    heads = ["iou_prediction_head", "pred_obj_score_head"]
    for name in heads + [f"output_hypernetworks_mlps.{index}" for index in range(4)]:
        w.ends(f"{meta}.{name}", f"{ours}.{name}")


def _memory(w: _Writer) -> None:
    for meta, ours in {
        "no_mem_embed": "no_memory_embedding",
        "no_mem_pos_enc": "no_memory_positional_encoding",
        "no_obj_ptr": "no_object_pointer",
        "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
        "maskmem_tpos_enc": "memory_temporal_positional_encoding",
    }.items():
        w.single(f"tracker.{meta}", f"tracker_model.{ours}")
    w.ends("tracker.obj_ptr_proj", "tracker_model.object_pointer_proj")
    projection = "temporal_positional_encoding_projection_layer"
    w.move("tracker.obj_ptr_tpos_proj", f"tracker_model.{projection}")
    w.move("tracker.mask_downsample", "tracker_model.mask_downsample")
    ours, meta = "tracker_model.memory_attention", "tracker.transformer.encoder"
    for index in range(w.count(f"{ours}.layers.")):
        target, source = f"{meta}.layers.{index}", f"{ours}.layers.{index}"
        w.apart(f"{target}.self_attn", f"{source}.self_attn")
        w.apart(f"{target}.cross_attn_image", f"{source}.cross_attn_image")
        for number in (1, 2, 3):
            w.move(f"{target}.norm{number}", f"{source}.layer_norm{number}")
        w.move(f"{target}.linear1", f"{source}.linear1")
        w.move(f"{target}.linear2", f"{source}.linear2")
    w.move(f"{meta}.norm", f"{ours}.layer_norm")
    ours, meta = "tracker_model.memory_encoder", "tracker.maskmem_backbone"
    for index in range(w.count(f"{ours}.mask_downsampler.layers.")):
        source, target = f"{ours}.mask_downsampler.layers.{index}", f"{meta}.mask_downsampler"
        w.move(f"{target}.encoder.{3 * index}", f"{source}.conv")
        w.move(f"{target}.encoder.{3 * index + 1}", f"{source}.layer_norm")
    w.move(f"{meta}.mask_downsampler.encoder.12", f"{ours}.mask_downsampler.final_conv")
    w.move(f"{meta}.pix_feat_proj", f"{ours}.feature_projection")
    w.move(f"{meta}.out_proj", f"{ours}.projection")
    for index in range(w.count(f"{ours}.memory_fuser.layers.")):
        target, source = f"{meta}.fuser.layers.{index}", f"{ours}.memory_fuser.layers.{index}"
        w.move(f"{target}.dwconv", f"{source}.depthwise_conv")
        w.move(f"{target}.pwconv1", f"{source}.pointwise_conv1")
        w.move(f"{target}.pwconv2", f"{source}.pointwise_conv2")
        w.move(f"{target}.norm", f"{source}.layer_norm")
        w.single(f"{target}.gamma", f"{source}.scale")
