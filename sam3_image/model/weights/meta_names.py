"""What transformers' SAM 3 modules are called in Meta's checkpoints: the table of names.

Read from transformers' names to Meta's, so that a weight which a model of ours has can be looked
up in a file of theirs (`meta_layout.py`). The facts are those of
https://github.com/facebookresearch/sam3 and were checked against numbers of that implementation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Rename = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class NamePart:
    """A module: how its names begin in transformers and in Meta's files, and what else differs.

    renames: patterns in transformers' names → Meta's, all applied in turn.
    fused: Meta's name of query, key and value projections kept in one tensor; empty: three tensors.
    """

    ours: str
    meta: str
    renames: tuple[Rename, ...] = ()
    fused: str = ""


def _count_from_zero(match: re.Match[str]) -> str:
    return f".layers.{int(match[1]) - 1}."


def _of_three(match: re.Match[str]) -> str:
    """Convolution, norm and activation take turns; the last has no weights."""
    return f"mask_downsampler.encoder.{3 * int(match[1]) + (match[2] == 'layer_norm')}."


FUSED = "in_proj_"
NUMBERED: Rename = (r"\.layer(\d)\.", _count_from_zero)
FEED_FORWARD: Rename = (r"\.mlp\.fc([12])\.", r".linear\1.")
NORMS: Rename = (r"\.layer_norm(\d)\.", r".norm\1.")
IMAGE_ATTENTION: Rename = (r"\.cross_attn\.", ".cross_attn_image.")
NECK: tuple[Rename, ...] = (
    # Level 0 has four times the patch grid, by two steps; level 1 twice, by one.
    (r"^0\.scale_layers\.0\.", "0.dconv_2x2_0."),
    (r"^0\.scale_layers\.2\.", "0.dconv_2x2_1."),
    (r"^1\.scale_layers\.0\.", "1.dconv_2x2."),
    (r"\.proj1\.", ".conv_1x1."),
    (r"\.proj2\.", ".conv_3x3."),
)
TEXT: tuple[Rename, ...] = (
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
DETR_DECODER: tuple[Rename, ...] = (
    (r"^presence_head\.", "presence_token_head."),
    (r"^presence_layer_norm\.", "presence_token_out_norm."),
    (r"^output_layer_norm\.", "norm."),
    (r"^box_head\.", "bbox_embed."),
    (r"^box_rpb_embed_([xy])\.", r"boxRPB_embed_\1."),
    (r"\.text_cross_attn_layer_norm\.", ".catext_norm."),
    (r"\.vision_cross_attn_layer_norm\.", ".norm1."),
    (r"\.self_attn_layer_norm\.", ".norm2."),
    (r"\.mlp_layer_norm\.", ".norm3."),
    (r"\.text_cross_attn\.", ".ca_text."),
    (r"\.vision_cross_attn\.", ".cross_attn."),
    FEED_FORWARD,
    NUMBERED,
)
HEADS = r"^((?:iou_prediction_head|pred_obj_score_head|output_hypernetworks_mlps\.\d)\.)"
DETECTOR = (
    NamePart(
        "detector_model.vision_encoder.backbone.",
        "detector.backbone.vision_backbone.trunk.",
        (
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^layer_norm\.", "ln_pre."),
            (r"^layers\.", "blocks."),
            NORMS,
            (r"\.attention\.out_proj\.", ".attn.proj."),
            (r"\.attention\.", ".attn."),
        ),
        fused="qkv.",
    ),
    NamePart(
        "detector_model.vision_encoder.neck.fpn_layers.",
        "detector.backbone.vision_backbone.convs.",
        NECK,
    ),
    NamePart("tracker_neck.fpn_layers.", "detector.backbone.vision_backbone.sam2_convs.", NECK),
    NamePart("detector_model.text_projection.", "detector.backbone.language_backbone.resizer."),
    NamePart(
        "detector_model.text_encoder.", "detector.backbone.language_backbone.encoder.", TEXT, FUSED
    ),
    NamePart(
        "detector_model.geometry_encoder.",
        "detector.geometry_encoder.",
        (
            (r"^layers\.", "encode."),
            IMAGE_ATTENTION,
            FEED_FORWARD,
            NORMS,
            (r"^vision_layer_norm\.", "img_pre_norm."),
            (r"^prompt_layer_norm\.", "norm."),
            (r"^output_layer_norm\.", "encode_norm."),
        ),
        FUSED,
    ),
    NamePart(
        "detector_model.detr_encoder.",
        "detector.transformer.encoder.",
        (IMAGE_ATTENTION, FEED_FORWARD, NORMS),
        FUSED,
    ),
    NamePart("detector_model.detr_decoder.", "detector.transformer.decoder.", DETR_DECODER, FUSED),
    NamePart(
        "detector_model.dot_product_scoring.",
        "detector.dot_prod_scoring.",
        (
            (r"^text_mlp_out_norm\.", "prompt_mlp.out_norm."),
            (r"^text_mlp\.", "prompt_mlp."),
            (r"^text_proj\.", "prompt_proj."),
            (r"^query_proj\.", "hs_proj."),
            NUMBERED,
        ),
    ),
    NamePart(
        "detector_model.mask_decoder.",
        "detector.segmentation_head.",
        (
            (r"^mask_embedder\.", "mask_predictor.mask_embed."),
            (r"^instance_projection\.", "instance_seg_head."),
            (r"^semantic_projection\.", "semantic_seg_head."),
            (r"^prompt_cross_attn\.", "cross_attend_prompt."),
            (r"^prompt_cross_attn_norm\.", "cross_attn_norm."),
        ),
        FUSED,
    ),
)
GAUSSIAN = "pe_layer.positional_encoding_gaussian_matrix"
TRACKER = (
    NamePart(
        "tracker_model.shared_image_embedding.",
        "tracker.sam_prompt_encoder.",
        ((r"^positional_embedding$", GAUSSIAN),),
    ),
    NamePart(
        "tracker_model.prompt_encoder.",
        "tracker.sam_prompt_encoder.",
        (
            (r"^shared_embedding\.positional_embedding$", GAUSSIAN),
            (r"^mask_embed\.conv1\.", "mask_downscaling.0."),
            (r"^mask_embed\.layer_norm1\.", "mask_downscaling.1."),
            (r"^mask_embed\.conv2\.", "mask_downscaling.3."),
            (r"^mask_embed\.layer_norm2\.", "mask_downscaling.4."),
            (r"^mask_embed\.conv3\.", "mask_downscaling.6."),
        ),
    ),
    NamePart(
        "tracker_model.mask_decoder.",
        "tracker.sam_mask_decoder.",
        (
            (r"^upscale_conv1\.", "output_upscaling.0."),
            (r"^upscale_layer_norm\.", "output_upscaling.1."),
            (r"^upscale_conv2\.", "output_upscaling.3."),
            (r"\.mlp\.proj_in\.", ".mlp.lin1."),
            (r"\.mlp\.proj_out\.", ".mlp.lin2."),
            NORMS,
            (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
            (HEADS + r"layers\.0\.", r"\1layers.1."),
            (HEADS + r"proj_in\.", r"\1layers.0."),
            (HEADS + r"proj_out\.", r"\1layers.2."),
        ),
    ),
    NamePart(
        "tracker_model.object_pointer_proj.",
        "tracker.obj_ptr_proj.",
        (
            (r"^layers\.0\.", "layers.1."),
            (r"^proj_in\.", "layers.0."),
            (r"^proj_out\.", "layers.2."),
        ),
    ),
    NamePart(
        "tracker_model.memory_attention.",
        "tracker.transformer.encoder.",
        (
            NORMS,
            (r"^layer_norm\.", "norm."),
        ),
    ),
    NamePart(
        "tracker_model.memory_encoder.",
        "tracker.maskmem_backbone.",
        (
            (r"^mask_downsampler\.final_conv\.", "mask_downsampler.encoder.12."),
            (r"^mask_downsampler\.layers\.(\d)\.(conv|layer_norm)\.", _of_three),
            (r"^feature_projection\.", "pix_feat_proj."),
            (r"^projection\.", "out_proj."),
            (r"^memory_fuser\.", "fuser."),
            (r"\.depthwise_conv\.", ".dwconv."),
            (r"\.pointwise_conv", ".pwconv"),
            (r"\.layer_norm\.", ".norm."),
            (r"\.scale$", ".gamma"),
        ),
    ),
    NamePart(
        "tracker_model.",
        "tracker.",
        (
            (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
            (r"^no_object_pointer$", "no_obj_ptr"),
            (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
            (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
            (r"^no_memory_embedding$", "no_mem_embed"),
            (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
        ),
    ),
)
PARTS = (*DETECTOR, *TRACKER)  # the first whose beginning fits
