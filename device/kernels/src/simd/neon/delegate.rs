//! What the tokens of int8 kernels share with [`NeonInt8`](super::NeonInt8): everything but products.

/// Defines operations of a token `self` by those of the [`NeonInt8`] in it.
macro_rules! delegate {
    () => {
        type Float = super::Neon;
        type Sums = [int32x4_t; 4];
        type Range = super::int8::Range;
        #[inline(always)]
        fn float(self) -> super::Neon {
            self.0.float()
        }
        #[inline(always)]
        fn splat(self, value: i32) -> [int32x4_t; 4] {
            self.0.splat(value)
        }
        #[inline(always)]
        fn widen(self, x: &[u8; LANES]) -> [int32x4_t; 4] {
            self.0.widen(x)
        }
        #[inline(always)]
        fn add(self, a: [int32x4_t; 4], b: [int32x4_t; 4]) -> [int32x4_t; 4] {
            self.0.add(a, b)
        }
        #[inline(always)]
        fn sub(self, a: [int32x4_t; 4], b: [int32x4_t; 4]) -> [int32x4_t; 4] {
            self.0.sub(a, b)
        }
        #[inline(always)]
        fn clamp(self, a: [int32x4_t; 4], low: [int32x4_t; 4], high: [int32x4_t; 4]) -> [int32x4_t; 4] {
            self.0.clamp(a, low, high)
        }
        #[inline(always)]
        fn real(self, sums: [int32x4_t; 4]) -> super::Quad {
            self.0.real(sums)
        }
        #[inline(always)]
        fn round(self, real: super::Quad) -> [int32x4_t; 4] {
            self.0.round(real)
        }
        #[inline(always)]
        fn range(self, rounding: crate::simd::int8::Rounding) -> super::int8::Range {
            self.0.range(rounding)
        }
        #[inline(always)]
        fn bytes(self, sums: [[int32x4_t; 4]; 4], range: super::int8::Range, out: &mut [u8; 4 * LANES]) {
            self.0.bytes(sums, range, out);
        }
        #[inline(always)]
        fn call<K: Int8Kernel>(self, kernel: K) -> K::Output {
            self.0.call(kernel)
        }
    };
}
pub(super) use delegate;
