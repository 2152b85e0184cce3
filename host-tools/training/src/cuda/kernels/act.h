/* Activations: the value and the slope, both from the pre-activation. Kinds as in arguments.rs. */
#pragma once

enum { BOUNDS, SIGMOID, SILU, LEAKY, HARD_SIGMOID, HARD_SWISH };

DEVICE float sigmoid(float z) { return 1.0f / (1.0f + expf(-z)); }

/* The order of the operands lets a NaN through. */
DEVICE float between(float z, float low, float high)
{
    float v = z < low ? low : z;
    return v > high ? high : v;
}

DEVICE float act_value(Act act, float z)
{
    switch (act.kind) {
    case BOUNDS: return between(z, act.p, act.q);
    case SIGMOID: return sigmoid(z);
    case SILU: return z * sigmoid(z);
    case LEAKY: return z >= 0.0f ? z : act.p * z;
    case HARD_SIGMOID: return between(act.p * z + act.q, 0.0f, 1.0f);
    default: return z * between(z * (1.0f / 6.0f) + 0.5f, 0.0f, 1.0f);
    }
}

DEVICE float act_slope(Act act, float z)
{
    float s;
    switch (act.kind) {
    case BOUNDS: return z > act.p && z < act.q ? 1.0f : 0.0f;
    case SIGMOID: s = sigmoid(z); return s * (1.0f - s);
    case SILU: s = sigmoid(z); return s * (1.0f + z * (1.0f - s));
    case LEAKY: return z > 0.0f ? 1.0f : act.p;
    case HARD_SIGMOID: s = act.p * z + act.q; return s > 0.0f && s < 1.0f ? act.p : 0.0f;
    default: return z <= -3.0f ? 0.0f : z >= 3.0f ? 1.0f : z * (1.0f / 3.0f) + 0.5f;
    }
}
