"""Converts a float ONNX network to an int8 TFLite file with TensorFlow's own quantiser.

    python tests/tools/onnx_to_tflite.py NETWORK.onnx IMAGES.npy NETWORK.tflite

IMAGES.npy has preprocessed calibration images, [N, 3, height, width]. Weights are quantised per channel, activations per
tensor, input and output stay float. Only the operators of plain convolutional networks are known; values have their channels
last throughout. Needs: numpy, onnx, tensorflow.
"""

import sys

import numpy as np
import onnx
import tensorflow as tf
from onnx import numpy_helper

# ONNX's order of dimensions as TensorFlow's.
AXES = [0, 3, 1, 2]


def padded(value, attributes, kernel):
    if attributes.get("auto_pad") == b"SAME_UPPER":
        return value, "SAME"
    assert attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"), "padding at the upper side"
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    # Where TensorFlow's name for the padding fits: no operation is needed.
    if attributes.get("strides", [1, 1]) == [1, 1] and top == bottom and left == right \
            and kernel == [2 * top + 1, 2 * left + 1] and kernel != [1, 1]:
        return value, "SAME"
    if any((top, left, bottom, right)):
        value = tf.pad(value, [[0, 0], [top, bottom], [left, right], [0, 0]])
    return value, "VALID"


def convolution(attributes, x, weight, bias=None):
    strides, group = attributes.get("strides", [1, 1]), attributes.get("group", 1)
    assert attributes.get("dilations", [1, 1]) == [1, 1], "a dilated convolution"
    x, padding = padded(x, attributes, list(weight.shape[2:]))
    if group == 1:
        y = tf.nn.conv2d(x, weight.transpose(2, 3, 1, 0), strides, padding)
    else:
        assert weight.shape[1] == 1 and weight.shape[0] == group, "a grouped convolution that isn't depthwise"
        y = tf.nn.depthwise_conv2d(x, weight.transpose(2, 3, 0, 1), [1, *strides, 1], padding)
    return y if bias is None else tf.nn.bias_add(y, bias)


def max_pool(attributes, x):
    # Maps here follow a ReLU, so zeros do for minus infinity, which has no integer.
    x, padding = padded(x, attributes, attributes["kernel_shape"])
    return tf.nn.max_pool2d(x, attributes["kernel_shape"], attributes.get("strides", [1, 1]), padding)


def clip(attributes, x, low=None, high=None):
    low, high = attributes.get("min", low), attributes.get("max", high)
    assert (float(low), float(high)) == (0.0, 6.0), f"a clip to {low}, {high}"
    return tf.nn.relu6(x)


def gemm(attributes, x, weight, bias=0.0):
    assert attributes.get("alpha", 1.0) == 1.0 and attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA")
    return tf.matmul(x, weight.T if attributes.get("transB") else weight) + bias


def mean(attributes, x, axes=None):
    assert list(attributes.get("axes", [] if axes is None else axes)) in ([2, 3], [-1, -2], [-2, -1])
    return tf.reduce_mean(x, [1, 2], keepdims=bool(attributes.get("keepdims", 1)))


def hard_sigmoid(attributes, x):
    assert abs(attributes.get("alpha", 0.2) - 1 / 6) < 1e-6 and attributes.get("beta", 0.5) == 0.5
    return tf.nn.relu6(x + 3.0) * (1 / 6)


def flatten(attributes, x, *_):
    return tf.reshape(tf.transpose(x, AXES) if len(x.shape) == 4 and x.shape[1:3] != [1, 1] else x, [x.shape[0], -1])


OPERATORS = {
    "Conv": convolution, "MaxPool": max_pool, "Clip": clip, "Gemm": gemm, "ReduceMean": mean, "HardSigmoid": hard_sigmoid,
    "Flatten": flatten, "Reshape": flatten,
    "GlobalAveragePool": lambda _, x: tf.reduce_mean(x, [1, 2], keepdims=True),
    "Relu": lambda _, x: tf.nn.relu(x),
    "Sigmoid": lambda _, x: tf.nn.sigmoid(x),
    # As the converter's pattern of its operator HARD_SWISH has it.
    "HardSwish": lambda _, x: x * tf.nn.relu6(x + 3.0) * (1 / 6),
    "Add": lambda _, a, b: a + b,
    "Mul": lambda _, a, b: a * b,
    "Identity": lambda _, x: x,
}


def network(model):
    constants = {initialiser.name: numpy_helper.to_array(initialiser) for initialiser in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    first = next(value.name for value in model.graph.input if value.name not in constants)

    def call(image):
        values = {first: image}
        for node in model.graph.node:
            if node.output[0] in constants:
                continue
            attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
            given = [constants[name] if name in constants else values[name] for name in node.input if name]
            values[node.output[0]] = OPERATORS[node.op_type](attributes, *given)
        return values[model.graph.output[0].name]

    return call


def convert(path, images, target):
    model, images = onnx.load(path), np.load(images).transpose(0, 2, 3, 1)
    unknown = sorted({node.op_type for node in model.graph.node} - {*OPERATORS, "Constant"})
    if unknown:
        raise SystemExit(f"operators without a conversion: {', '.join(unknown)}")
    call = tf.function(network(model), input_signature=[tf.TensorSpec([1, *images.shape[1:]], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()], call)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    with open(target, "wb") as file:
        file.write(converter.convert())


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    convert(*sys.argv[1:])
