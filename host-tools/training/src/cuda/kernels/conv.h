/* Frozen convolutions: columns for a matrix product (dense), and sums over the window (grouped and depthwise). */
#pragma once

/* The input row or column that kernel element k of window o sees, or -1. */
DEVICE int seen(Window w, int axis, int o, int k, int size)
{
    int at = o * w.stride[axis] + k * w.dilation[axis] - w.pads[axis];
    return at >= 0 && at < size ? at : -1;
}

/* The window whose kernel element k sees position p, or -1. */
DEVICE int seen_by(Window w, int axis, int p, int k, int count)
{
    int at = p + w.pads[axis] - k * w.dilation[axis];
    if (at < 0 || at % w.stride[axis] != 0)
        return -1;
    at /= w.stride[axis];
    return at < count ? at : -1;
}

/* Columns [N, C * kh * kw, H' * W']: in x; out the columns. */
KERNEL(columns_forward)
{
    int kh = a.window.kernel[0], kw = a.window.kernel[1];
    EACH(i, (Index)a.from.n * a.from.c * kh * kw * plane_of(a.to))
    {
        int ox = (int)(i % a.to.w), oy = (int)(i / a.to.w % a.to.h);
        Index row = i / plane_of(a.to);
        int kx = (int)(row % kw), ky = (int)(row / kw % kh);
        const float *x = a.in[0] + row / (kh * kw) * plane_of(a.from);
        int y = seen(a.window, 0, oy, ky, a.from.h), s = seen(a.window, 1, ox, kx, a.from.w);
        a.out[0][i] = y < 0 || s < 0 ? 0.0f : x[(Index)y * a.from.w + s];
    }
}

/* dx: each pixel gathers the gradients of the columns that contain it: in those; out dx, from `count` on. */
KERNEL(columns_input)
{
    int kh = a.window.kernel[0], kw = a.window.kernel[1];
    EACH(i, count_of(a.from))
    {
        int s = (int)(i % a.from.w), y = (int)(i / a.from.w % a.from.h);
        const float *g = a.in[0] + i / plane_of(a.from) * kh * kw * plane_of(a.to);
        float sum = 0.0f;
        for (int ky = 0; ky < kh; ky++) {
            int oy = seen_by(a.window, 0, y, ky, a.to.h);
            for (int kx = 0; kx < kw; kx++) {
                int ox = seen_by(a.window, 1, s, kx, a.to.w);
                if (oy >= 0 && ox >= 0)
                    sum += g[(ky * kw + kx) * plane_of(a.to) + (Index)oy * a.to.w + ox];
            }
        }
        a.out[0][a.count + i] = sum;
    }
}

/* Grouped convolution: in x, weights [O, I / groups, kh, kw]; out y. */
KERNEL(grouped_forward)
{
    int kh = a.window.kernel[0], kw = a.window.kernel[1], inputs = a.from.c / a.groups, outputs = a.to.c / a.groups;
    EACH(i, count_of(a.to))
    {
        int ox = (int)(i % a.to.w), oy = (int)(i / a.to.w % a.to.h), o = channel_of(a.to, i);
        Index image = i / plane_of(a.to) / a.to.c;
        const float *x = a.in[0] + (image * a.from.c + o / outputs * inputs) * plane_of(a.from);
        const float *weight = a.in[1] + (Index)o * inputs * kh * kw;
        float sum = 0.0f;
        for (int c = 0; c < inputs; c++) {
            for (int ky = 0; ky < kh; ky++) {
                int y = seen(a.window, 0, oy, ky, a.from.h);
                for (int kx = 0; kx < kw; kx++) {
                    int s = seen(a.window, 1, ox, kx, a.from.w);
                    if (y >= 0 && s >= 0)
                        sum += weight[(c * kh + ky) * kw + kx] * x[c * plane_of(a.from) + (Index)y * a.from.w + s];
                }
            }
        }
        a.out[0][i] = sum;
    }
}

/* dx of the same: in dy, weights; out dx. */
KERNEL(grouped_input)
{
    int kh = a.window.kernel[0], kw = a.window.kernel[1], inputs = a.from.c / a.groups, outputs = a.to.c / a.groups;
    EACH(i, count_of(a.from))
    {
        int s = (int)(i % a.from.w), y = (int)(i / a.from.w % a.from.h), c = channel_of(a.from, i);
        Index image = i / plane_of(a.from) / a.from.c;
        int first = c / inputs * outputs;
        const float *g = a.in[0] + (image * a.to.c + first) * plane_of(a.to);
        const float *weight = a.in[1] + ((Index)first * inputs + c % inputs) * kh * kw;
        float sum = 0.0f;
        for (int o = 0; o < outputs; o++) {
            for (int ky = 0; ky < kh; ky++) {
                int oy = seen_by(a.window, 0, y, ky, a.to.h);
                for (int kx = 0; kx < kw; kx++) {
                    int ox = seen_by(a.window, 1, s, kx, a.to.w);
                    if (oy >= 0 && ox >= 0)
                        sum += weight[((Index)o * inputs * kh + ky) * kw + kx] * g[o * plane_of(a.to) + (Index)oy * a.to.w + ox];
                }
            }
        }
        a.out[0][i] = sum;
    }
}
