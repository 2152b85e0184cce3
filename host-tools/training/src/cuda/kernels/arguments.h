/* Arguments of a kernel: one structure for all, mirrored by arguments.rs. */
#pragma once

/* Sizes of an NCHW map. */
typedef struct {
    int n, c, h, w;
} Map;

/* A window over rows and columns; pads are top, left, bottom, right. */
typedef struct {
    int kernel[2], stride[2], dilation[2], pads[4];
} Window;

/* An activation: its kind and up to two numbers. */
typedef struct {
    int kind;
    float p, q;
} Act;

typedef struct {
    const float *in[6];
    float *out[3];
    /* Values of a kernel without a map. */
    Index count;
    Map from, to;
    Window window;
    Act act;
    float epsilon;
    /* Groups of a convolution. */
    int groups;
    /* Mirror the kernel (depthwise), or count the padding (average pool). */
    int flag;
} Arguments;

/* ARGUMENT_BYTES in arguments.rs must be equal. */
typedef char arguments_have_the_size_known_to_rust[sizeof(Arguments) == 176 ? 1 : -1];

DEVICE Index plane_of(Map m) { return (Index)m.h * m.w; }

DEVICE Index count_of(Map m) { return (Index)m.n * m.c * m.h * m.w; }

/* The channel of element i. */
DEVICE int channel_of(Map m, Index i) { return (int)(i / plane_of(m) % m.c); }

/* The position of value i of a channel c, counted over the batch. */
DEVICE Index of_channel(Map m, int c, Index i)
{
    Index plane = plane_of(m);
    return (i / plane * m.c + c) * plane + i % plane;
}

/* Adds up BLOCK values; the sum is in the first. The order depends on nothing. */
DEVICE void add_up(float *partial)
{
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        EACH_THREAD(t)
        {
            if (t < half)
                partial[t] += partial[t + half];
        }
    }
}
