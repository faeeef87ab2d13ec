"""What of a graph would run on a GPU: TensorFlow's package lists its kernels for GPUs also on machines without one."""

import tensorflow as tf
from tensorflow.python.framework import function_def_to_graph, kernels

ARE_KNOWN = tf.test.is_built_with_cuda()


def on_cpu_only(function) -> set[str]:
    """Return the kinds of operations in a concrete `tf.function` that have no kernel for GPUs."""
    return {it.type for it in operations(function) if it.type != "Placeholder" and not _kernel(it)}


def copied_to_host(function) -> set[str]:
    """Return for what the host would wait, because an operation takes it from the GPU's memory: "ArgMax to Reshape"."""
    found = set()
    for operation in operations(function):
        for tensor, is_on_host in zip(operation.inputs, _are_on_host(operation, "input_arg"), strict=True):
            source = tensor.op
            if source.type == "Placeholder":  # where an argument is depends on the caller
                continue
            if is_on_host and not _are_on_host(source, "output_arg")[tensor.value_index]:
                found.add(f"{source.type} to {operation.type}")
    return found


def operations(function) -> list:
    """Return the operations in a concrete `tf.function` and in all functions that it calls."""
    called = function.graph.as_graph_def().library.function
    graphs = [function.graph, *map(function_def_to_graph.function_def_to_graph, called)]
    return [operation for graph in graphs for operation in graph.get_operations()]


def _kernel(operation):
    """Return the description of the operation's kernel for GPUs, or None."""
    for kernel in kernels.get_registered_kernels_for_op(operation.type).kernel:
        if kernel.device_type in ("GPU", "DEFAULT") and all(_holds(it, operation) for it in kernel.constraint):
            return kernel
    return None


def _holds(constraint, operation) -> bool:
    value = operation.get_attr(constraint.name)
    return {*(value if isinstance(value, list) else [value])} <= {*constraint.allowed_values.list.type}


def _are_on_host(operation, arguments: str) -> list[bool]:
    """Return whether each tensor of an operation is in the host's memory; arguments: "input_arg" or "output_arg"."""
    kernel, are_on_host = _kernel(operation), []
    for argument in getattr(operation.op_def, arguments):
        count = operation.get_attr(argument.number_attr) if argument.number_attr else 1
        count = len(operation.get_attr(argument.type_list_attr)) if argument.type_list_attr else count
        are_on_host += [kernel is not None and argument.name in kernel.host_memory_arg] * count
    return are_on_host
