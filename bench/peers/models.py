# bench/peers/models.py
# SPDX-License-Identifier: Apache-2.0
"""WeNet's ONNX exports of a model as files that the peers load, made once into a work folder.

The exports come as skeletons (graphs without their large tensors) with fill.py, which takes the weights out of
final.pt; or as whole files encoder.onnx, ctc.onnx, decoder.onnx from WeNet's export_onnx_cpu.py.
"""

import importlib.util
import pathlib

import onnx
from onnx import TensorProto, helper

SKELETONS = {
    "encoder": "cpu_encoder_-1_-1_op17",
    "ctc": "cpu_ctc_-1_-1_op17",
    "decoder": "cpu_decoder_-1_-1_op17",
    "gpu_encoder": "gpu_encoder_op17",
}


def _load_fill(path):
    spec = importlib.util.spec_from_file_location("fill", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fill


def prepare(onnx_dir, model_dir, work_dir):
    """Returns {part: path} of the parts that this folder can give; encoder, ctc and decoder are required."""
    onnx_dir, work_dir = pathlib.Path(onnx_dir), pathlib.Path(work_dir)
    parts = {}
    for part, skeleton in SKELETONS.items():
        whole = onnx_dir / f"{part}.onnx"
        source = onnx_dir / f"{skeleton}.onnx"
        if whole.exists():
            parts[part] = whole
        elif source.exists():
            parts[part] = work_dir / f"{part}.onnx"
            if not parts[part].exists():
                _load_fill(onnx_dir.parent / "fill.py")(str(source), str(model_dir), str(parts[part]))
    missing = [part for part in ("encoder", "ctc", "decoder") if part not in parts]
    if missing:
        raise SystemExit(f"{onnx_dir} has no full-context export of {', '.join(missing)}: neither PART.onnx nor "
                         f"{SKELETONS['encoder']}.onnx and its kind")
    if "gpu_encoder" in parts:
        parts["sherpa"] = work_dir / "sherpa.onnx"
        if not parts["sherpa"].exists():
            make_sherpa(parts["gpu_encoder"], parts["sherpa"])
    return {part: str(path) for part, path in parts.items()}


def make_sherpa(encoder_path, out_path):
    """The graph that sherpa-onnx's own export for WeNet has: (x, x_lens int64) to (log_probs, log_probs_lens int64).

    Made from the GPU export, which has the lengths and the CTC head; its other outputs go, and with them the nodes
    that only they need (ONNX Runtime drops those on loading).
    """
    model = onnx.load(encoder_path)
    graph = model.graph
    outputs = {value.name: value for value in graph.output}
    vocab_size = outputs["ctc_log_probs"].type.tensor_type.shape.dim[2].dim_value
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    del graph.input[1]
    graph.input.append(helper.make_tensor_value_info("x_lens", TensorProto.INT64, [batch]))
    graph.node.insert(0, helper.make_node("Cast", ["x_lens"], ["speech_lengths"], to=TensorProto.INT32))
    graph.node.append(helper.make_node("Cast", ["encoder_out_lens"], ["log_probs_lens"], to=TensorProto.INT64))
    del graph.output[:]
    graph.output.append(outputs["ctc_log_probs"])
    graph.output.append(helper.make_tensor_value_info("log_probs_lens", TensorProto.INT64, [batch]))
    del model.metadata_props[:]
    helper.set_model_props(model, {
        "model_type": "wenet_ctc", "version": "1", "model_author": "wenet", "comment": "non-streaming",
        "subsampling_factor": "4", "vocab_size": str(vocab_size), "url": "",
    })
    onnx.checker.check_model(model)
    onnx.save(model, out_path)
