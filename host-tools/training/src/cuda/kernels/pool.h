/* Pooling: maximum, mean, and the mean of whole planes. */
#pragma once

/* The part lo..hi of window o along an axis that lies inside `size`, and its weight in a mean. */
typedef struct {
    int lo, hi, share;
} Span;

DEVICE Span span_of(Window w, int axis, int o, int size, int count_pad)
{
    int start = o * w.stride[axis] - w.pads[axis], end = start + w.kernel[axis];
    if (end > size + w.pads[axis + 2])
        end = size + w.pads[axis + 2];
    Span s;
    s.lo = start > 0 ? start : 0;
    s.hi = end < size ? end : size;
    if (s.hi < s.lo)
        s.hi = s.lo;
    s.share = count_pad ? end - start : s.hi - s.lo;
    return s;
}

/* The windows lo..hi along an axis that may contain position p. */
DEVICE Span windows_of(Window w, int axis, int p, int count)
{
    int last = (p + w.pads[axis]) / w.stride[axis], first = p + w.pads[axis] - w.kernel[axis] + 1;
    Span s;
    s.lo = first > 0 ? (first + w.stride[axis] - 1) / w.stride[axis] : 0;
    s.hi = last + 1 < count ? last + 1 : count;
    s.share = 0;
    return s;
}

/* Maximum and the winner's place in its window, ky * kw + kx, or -1 where a window sees padding only: in x; out y, winners. */
KERNEL(max_forward)
{
    EACH(i, count_of(a.to))
    {
        int ox = (int)(i % a.to.w), oy = (int)(i / a.to.w % a.to.h);
        const float *x = a.in[0] + i / plane_of(a.to) * plane_of(a.from);
        Span rows = span_of(a.window, 0, oy, a.from.h, 0), columns = span_of(a.window, 1, ox, a.from.w, 0);
        float best = -INFINITY;
        int winner = -1;
        for (int y = rows.lo; y < rows.hi; y++) {
            int ky = y + a.window.pads[0] - oy * a.window.stride[0];
            for (int s = columns.lo; s < columns.hi; s++) {
                int kx = s + a.window.pads[1] - ox * a.window.stride[1];
                float value = x[(Index)y * a.from.w + s];
                /* The first value wins even if it is infinitely small, and a NaN always does. */
                if (value > best || value != value || winner < 0) {
                    best = value;
                    winner = ky * a.window.kernel[1] + kx;
                }
            }
        }
        a.out[0][i] = best;
        a.out[1][i] = (float)winner;
    }
}

/* dx: each pixel gathers from the windows whose maximum it is: in dy, winners; out dx. */
KERNEL(max_input)
{
    EACH(i, count_of(a.from))
    {
        int s = (int)(i % a.from.w), y = (int)(i / a.from.w % a.from.h);
        Index plane = i / plane_of(a.from) * plane_of(a.to);
        Span rows = windows_of(a.window, 0, y, a.to.h), columns = windows_of(a.window, 1, s, a.to.w);
        float sum = 0.0f;
        for (int oy = rows.lo; oy < rows.hi; oy++) {
            int ky = y + a.window.pads[0] - oy * a.window.stride[0];
            for (int ox = columns.lo; ox < columns.hi; ox++) {
                int kx = s + a.window.pads[1] - ox * a.window.stride[1];
                Index at = plane + (Index)oy * a.to.w + ox;
                if ((int)a.in[1][at] == ky * a.window.kernel[1] + kx)
                    sum += a.in[0][at];
            }
        }
        a.out[0][i] = sum;
    }
}

/* Mean over windows; the flag counts the padding: in x; out y. */
KERNEL(average_forward)
{
    EACH(i, count_of(a.to))
    {
        int ox = (int)(i % a.to.w), oy = (int)(i / a.to.w % a.to.h);
        const float *x = a.in[0] + i / plane_of(a.to) * plane_of(a.from);
        Span rows = span_of(a.window, 0, oy, a.from.h, a.flag), columns = span_of(a.window, 1, ox, a.from.w, a.flag);
        float sum = 0.0f;
        for (int y = rows.lo; y < rows.hi; y++)
            for (int s = columns.lo; s < columns.hi; s++)
                sum += x[(Index)y * a.from.w + s];
        int count = rows.share * columns.share;
        a.out[0][i] = sum / (float)(count > 1 ? count : 1);
    }
}

/* dx: each pixel gathers its share of the windows that contain it: in dy; out dx. */
KERNEL(average_input)
{
    EACH(i, count_of(a.from))
    {
        int s = (int)(i % a.from.w), y = (int)(i / a.from.w % a.from.h);
        Index plane = i / plane_of(a.from) * plane_of(a.to);
        Span rows = windows_of(a.window, 0, y, a.to.h), columns = windows_of(a.window, 1, s, a.to.w);
        float sum = 0.0f;
        for (int oy = rows.lo; oy < rows.hi; oy++) {
            Span inside = span_of(a.window, 0, oy, a.from.h, a.flag);
            for (int ox = columns.lo; ox < columns.hi; ox++) {
                int count = inside.share * span_of(a.window, 1, ox, a.from.w, a.flag).share;
                sum += a.in[0][plane + (Index)oy * a.to.w + ox] / (float)(count > 1 ? count : 1);
            }
        }
        a.out[0][i] = sum;
    }
}

/* Mean of every plane, one block per plane: in x; out y. */
KERNEL(global_forward)
{
    SHARED float partial[BLOCK];
    Index plane = plane_of(a.from);
    EACH_THREAD(t)
    {
        float sum = 0.0f;
        for (Index i = t; i < plane; i += BLOCK)
            sum += a.in[0][BLOCK_INDEX * plane + i];
        partial[t] = sum;
    }
    add_up(partial);
    EACH_THREAD(t)
    {
        if (t == 0)
            a.out[0][BLOCK_INDEX] = partial[0] / (float)plane;
    }
}

/* dx: in dy; out dx. */
KERNEL(global_input)
{
    EACH(i, count_of(a.from)) { a.out[0][i] = a.in[0][i / plane_of(a.from)] / (float)plane_of(a.from); }
}
