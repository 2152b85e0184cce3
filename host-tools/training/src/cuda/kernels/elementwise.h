/* Per-channel scale and shift, activations, the residual sum and PReLU. */
#pragma once

/* y = act(x * scale + shift): in x, scale, shift; out y. */
KERNEL(affine_forward)
{
    EACH(i, count_of(a.from))
    {
        int c = channel_of(a.from, i);
        a.out[0][i] = act_value(a.act, a.in[0][i] * a.in[1][c] + a.in[2][c]);
    }
}

/* dx of the same: in x, dy, scale, shift; out dx. */
KERNEL(affine_input)
{
    EACH(i, count_of(a.from))
    {
        int c = channel_of(a.from, i);
        float scale = a.in[2][c];
        a.out[0][i] = a.in[1][i] * act_slope(a.act, a.in[0][i] * scale + a.in[3][c]) * scale;
    }
}

/* Gradients of scale and shift, one block per channel: in x, dy, scale, shift; out both. */
KERNEL(affine_sums)
{
    SHARED float by_scale[BLOCK], by_shift[BLOCK];
    int c = (int)BLOCK_INDEX;
    Index count = a.from.n * plane_of(a.from);
    EACH_THREAD(t)
    {
        float gx = 0.0f, sum = 0.0f, scale = a.in[2][c], shift = a.in[3][c];
        for (Index i = t; i < count; i += BLOCK) {
            Index at = of_channel(a.from, c, i);
            float x = a.in[0][at], g = a.in[1][at] * act_slope(a.act, x * scale + shift);
            gx += g * x;
            sum += g;
        }
        by_scale[t] = gx;
        by_shift[t] = sum;
    }
    add_up(by_scale);
    add_up(by_shift);
    EACH_THREAD(t)
    {
        if (t == 0) {
            a.out[0][c] = by_scale[0];
            a.out[1][c] = by_shift[0];
        }
    }
}

/* act(x): in x; out y. */
KERNEL(activate_forward)
{
    EACH(i, a.count) { a.out[0][i] = act_value(a.act, a.in[0][i]); }
}

/* dy * slope(x): in x, dy; out dx. */
KERNEL(activate_input)
{
    EACH(i, a.count) { a.out[0][i] = a.in[1][i] * act_slope(a.act, a.in[0][i]); }
}

/* act(x + y): in x, y; out the sum. */
KERNEL(add_forward)
{
    EACH(i, a.count) { a.out[0][i] = act_value(a.act, a.in[0][i] + a.in[1][i]); }
}

/* The gradient of both summands: in x, y, the result's gradient; out the gradient. */
KERNEL(add_input)
{
    EACH(i, a.count) { a.out[0][i] = a.in[2][i] * act_slope(a.act, a.in[0][i] + a.in[1][i]); }
}

/* x if x >= 0 else slope * x: in x, slope; out y. */
KERNEL(prelu_forward)
{
    EACH(i, count_of(a.from))
    {
        float x = a.in[0][i];
        a.out[0][i] = x >= 0.0f ? x : a.in[1][channel_of(a.from, i)] * x;
    }
}

/* dx of the same: in x, slope, dy; out dx. */
KERNEL(prelu_input)
{
    EACH(i, count_of(a.from))
    {
        a.out[0][i] = a.in[2][i] * (a.in[0][i] > 0.0f ? 1.0f : a.in[1][channel_of(a.from, i)]);
    }
}

/* Gradient of the slope, one block per channel: in x, dy; out the gradient. */
KERNEL(prelu_sums)
{
    SHARED float partial[BLOCK];
    int c = (int)BLOCK_INDEX;
    Index count = a.from.n * plane_of(a.from);
    EACH_THREAD(t)
    {
        float sum = 0.0f;
        for (Index i = t; i < count; i += BLOCK) {
            Index at = of_channel(a.from, c, i);
            float x = a.in[0][at];
            if (x < 0.0f)
                sum += x * a.in[1][at];
        }
        partial[t] = sum;
    }
    add_up(partial);
    EACH_THREAD(t)
    {
        if (t == 0)
            a.out[0][c] = partial[0];
    }
}
