/* Language macros of the kernels: one source, compiled by nvcc for a GPU and by a C compiler for the tests.
 *
 * A kernel is either element-wise, EACH(i, count) { .. }, or a list of phases, EACH_THREAD(t) { .. }, between which all threads of a
 * block wait. Nothing but shared memory is carried from one phase to the next, no phase leaves early (no break, no return), and within a
 * phase no thread reads what another one writes. The C build runs the threads of a phase one after the other, forwards or backwards, so
 * that a test can tell whether any of this was broken. */
#pragma once

/* Threads of a block; BLOCK in arguments.rs must be equal. */
#define BLOCK 256

typedef long long Index;

#ifdef __CUDACC__

#define KERNEL(name) extern "C" __global__ void __launch_bounds__(BLOCK) name(const Arguments a)
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__
#define BLOCK_INDEX ((Index)blockIdx.x)
#define EACH(i, count) \
    for (Index i = (Index)blockIdx.x * BLOCK + threadIdx.x; i < (count); i += (Index)gridDim.x * BLOCK)
#define EACH_THREAD(t) for (int t = threadIdx.x, once = 1; once; once = 0, __syncthreads())

#else

#include <math.h>

static Index grid_block, grid_blocks;
static int grid_reversed;

/* The indices of a block, for the kernel called next. */
void set_grid(Index block, Index blocks, int reversed)
{
    grid_block = block;
    grid_blocks = blocks;
    grid_reversed = reversed;
}

#define KERNEL(name) void name(const Arguments a)
#define DEVICE static inline
#define SHARED static
#define BLOCK_INDEX grid_block
#define EACH(i, count)                                                                                 \
    for (Index first = grid_block * BLOCK; first < (count); first += grid_blocks * BLOCK)              \
        for (Index i = first; i < first + BLOCK && i < (count); i++)
#define EACH_THREAD(t)                                                                                 \
    for (int turn = 0, t = grid_reversed ? BLOCK - 1 : 0; turn < BLOCK; turn++, t += grid_reversed ? -1 : 1)

#endif
