/* The CLR layer: one 3x3 kernel per channel, stride 1, padding 1, with bias and activation. */
#pragma once

/* The value of x at (y + dy, x + dx) of the pixel at i, zero outside. */
DEVICE float neighbour(const float *x, Map m, Index i, int row, int column, int dy, int dx)
{
    int r = row + dy, s = column + dx;
    return r >= 0 && r < m.h && s >= 0 && s < m.w ? x[i + dy * m.w + dx] : 0.0f;
}

/* The kernel (or its mirror image) over the pixel at i. */
DEVICE float taps(const float *x, const float *kernel, Map m, Index i, int mirror)
{
    int column = (int)(i % m.w), row = (int)(i / m.w % m.h);
    float sum = 0.0f;
    for (int k = 0; k < 9; k++)
        sum += kernel[mirror ? 8 - k : k] * neighbour(x, m, i, row, column, k / 3 - 1, k % 3 - 1);
    return sum;
}

/* act(depthwise(x, kernel) + bias): in x, kernel, and bias or nothing; out y. With the flag the kernel is mirrored, which gives the
 * input gradient. */
KERNEL(site_forward)
{
    EACH(i, count_of(a.from))
    {
        int c = channel_of(a.from, i);
        float bias = a.in[2] ? a.in[2][c] : 0.0f;
        a.out[0][i] = act_value(a.act, taps(a.in[0], a.in[1] + 9 * c, a.from, i, a.flag) + bias);
    }
}

/* The gradient before the activation: in x, kernel, bias or nothing, dy; out the gradient. */
KERNEL(site_gradient)
{
    EACH(i, count_of(a.from))
    {
        int c = channel_of(a.from, i);
        float bias = a.in[2] ? a.in[2][c] : 0.0f;
        a.out[0][i] = a.in[3][i] * act_slope(a.act, taps(a.in[0], a.in[1] + 9 * c, a.from, i, 0) + bias);
    }
}

/* Gradients of kernel and bias, one block per channel: in x, the gradient before the activation; out both. */
KERNEL(site_sums)
{
    SHARED float partial[10][BLOCK];
    int c = (int)BLOCK_INDEX;
    Index count = a.from.n * plane_of(a.from);
    EACH_THREAD(t)
    {
        float sums[10] = {0.0f};
        for (Index i = t; i < count; i += BLOCK) {
            Index at = of_channel(a.from, c, i);
            int column = (int)(at % a.from.w), row = (int)(at / a.from.w % a.from.h);
            float g = a.in[1][at];
            for (int k = 0; k < 9; k++)
                sums[k] += g * neighbour(a.in[0], a.from, at, row, column, k / 3 - 1, k % 3 - 1);
            sums[9] += g;
        }
        for (int k = 0; k < 10; k++)
            partial[k][t] = sums[k];
    }
    for (int k = 0; k < 10; k++)
        add_up(partial[k]);
    EACH_THREAD(t)
    {
        if (t < 9)
            a.out[0][9 * c + t] = partial[t][0];
        else if (t == 9)
            a.out[1][c] = partial[9][0];
    }
}
