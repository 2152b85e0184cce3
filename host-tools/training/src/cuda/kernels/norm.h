/* Normalisation by the statistics of the batch. */
#pragma once

/* Mean and biased variance, one block per channel: in x; out mean, variance. */
KERNEL(norm_statistics)
{
    SHARED float partial[BLOCK];
    SHARED float mean[1];
    int c = (int)BLOCK_INDEX;
    Index count = a.from.n * plane_of(a.from);
    EACH_THREAD(t)
    {
        float sum = 0.0f;
        for (Index i = t; i < count; i += BLOCK)
            sum += a.in[0][of_channel(a.from, c, i)];
        partial[t] = sum;
    }
    add_up(partial);
    EACH_THREAD(t)
    {
        if (t == 0)
            mean[0] = partial[0] / (float)count;
    }
    EACH_THREAD(t)
    {
        float sum = 0.0f;
        for (Index i = t; i < count; i += BLOCK) {
            float d = a.in[0][of_channel(a.from, c, i)] - mean[0];
            sum += d * d;
        }
        partial[t] = sum;
    }
    add_up(partial);
    EACH_THREAD(t)
    {
        if (t == 0) {
            a.out[0][c] = mean[0];
            a.out[1][c] = partial[0] / (float)count;
        }
    }
}

/* The normalisation as scale and shift per channel: in mean, variance, gamma, beta; out one table [4, C] of scale, shift, mean and
 * 1 / deviation. `count` is C. */
KERNEL(norm_table)
{
    EACH(c, a.count)
    {
        float inverse = 1.0f / sqrtf(a.in[1][c] + a.epsilon), scale = a.in[2][c] * inverse;
        a.out[0][c] = scale;
        a.out[0][a.count + c] = a.in[3][c] - a.in[0][c] * scale;
        a.out[0][2 * a.count + c] = a.in[0][c];
        a.out[0][3 * a.count + c] = inverse;
    }
}

/* Gradients of gamma and beta, one block per channel: in x, dy, table; out one table [2, C]. */
KERNEL(norm_sums)
{
    SHARED float by_gamma[BLOCK], by_beta[BLOCK];
    int c = (int)BLOCK_INDEX, channels = a.from.c;
    Index count = a.from.n * plane_of(a.from);
    EACH_THREAD(t)
    {
        const float *table = a.in[2] + c;
        float scale = table[0], shift = table[channels], mean = table[2 * channels];
        float gx = 0.0f, sum = 0.0f;
        for (Index i = t; i < count; i += BLOCK) {
            Index at = of_channel(a.from, c, i);
            float x = a.in[0][at], g = a.in[1][at] * act_slope(a.act, x * scale + shift);
            gx += g * (x - mean);
            sum += g;
        }
        by_gamma[t] = gx * table[3 * channels];
        by_beta[t] = sum;
    }
    add_up(by_gamma);
    add_up(by_beta);
    EACH_THREAD(t)
    {
        if (t == 0) {
            a.out[0][c] = by_gamma[0];
            a.out[0][channels + c] = by_beta[0];
        }
    }
}

/* scale * (g - mean(g) - normalised x * mean(g * normalised x)): in x, dy, table, the gradients of gamma and beta; out dx. */
KERNEL(norm_input)
{
    int channels = a.from.c;
    float share = 1.0f / (float)(a.from.n * plane_of(a.from));
    EACH(i, count_of(a.from))
    {
        int c = channel_of(a.from, i);
        const float *table = a.in[2] + c, *sums = a.in[3] + c;
        float x = a.in[0][i], scale = table[0];
        float g = a.in[1][i] * act_slope(a.act, x * scale + table[channels]);
        float normalised = (x - table[2 * channels]) * table[3 * channels];
        a.out[0][i] = scale * (g - share * (sums[channels] + normalised * sums[0]));
    }
}
