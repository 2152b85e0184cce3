//! Vectors of bytes and of sixteen i32 for the int8 kernels, in one implementation per instruction set.
//!
//! A token ([`Int8Simd`]) proves that the CPU supports the instructions, as for [`Simd`]. The integer sums are exact on
//! every instruction set, and conversions round to nearest even, so all results are bit-identical.

#[cfg(target_arch = "aarch64")]
pub(crate) use super::neon::{DotProd, I8mm, NeonInt8, NeonPairs, NeonTaps};
pub(crate) use super::portable::Exact;
#[cfg(target_arch = "x86_64")]
pub(crate) use super::x86::{Avx2Int8, AvxVnni, Vnni512};
use super::{Isa, LANES, Simd, Token};

/// Weights of sixteen outputs for four inputs, `[16][4]`. The alignment is that of a cache line, because a load that
/// crosses lines takes twice as long.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Step(pub(crate) [i8; 4 * LANES]);

/// Quantisation of an output: `clamp(round(r) + zero_point, low, high)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounding {
    /// The byte of the real value 0.
    pub zero_point: u8,
    /// The least byte, of a lower bound of the activation; otherwise 0.
    pub low: u8,
    /// The largest byte, of an upper bound of the activation; otherwise 255.
    pub high: u8,
}

impl Rounding {
    /// Returns a quantisation with this zero point and all 256 bytes.
    pub const fn new(zero_point: u8) -> Self {
        Self {
            zero_point,
            low: 0,
            high: 255,
        }
    }
}

/// Sixteen f32 of an instruction set.
pub(crate) type Real<S> = <<S as Int8Simd>::Float as Simd>::Vector;

/// Proof that the CPU supports an instruction set, and the integer operations of the int8 kernels in it.
pub(crate) trait Int8Simd: Copy + Send + Sync + 'static {
    /// The instructions for f32.
    type Float: Simd;
    /// Sixteen i32.
    type Sums: Copy;
    /// Unfinished dot products of sixteen outputs.
    type Dots: Copy;
    /// Four inputs, the same ones for sixteen outputs.
    type Quad: Copy;
    /// Four inputs for each of sixteen outputs.
    type Columns: Copy;
    /// A [`Step`] in registers.
    type Weights: Copy;
    /// A [`Rounding`] in registers.
    type Range: Copy;
    /// Subtracted from every input byte before it is multiplied.
    const OFFSET: i32;
    /// Whether [`Int8Simd::four`] is faster than four times [`Int8Simd::quad`].
    const FOURS: bool = false;
    /// Whether [`Int8Simd::dot_pair`] is faster than two times [`Int8Simd::dot_lane`].
    const PAIRS: bool = false;
    /// Returns the token of the f32 instructions.
    fn float(self) -> Self::Float;
    /// Returns dot products that start from these values.
    fn begin(self, start: &[i32; LANES]) -> Self::Dots;
    /// Reads the same four inputs for all outputs.
    fn quad(self, x: [u8; 4]) -> Self::Quad;
    /// Reads sixteen inputs: four quads for [`Int8Simd::dot_lane`].
    #[inline(always)]
    fn four(self, x: &[u8; LANES]) -> [Self::Quad; 4] {
        [0, 1, 2, 3].map(|quad| self.quad([x[quad * 4], x[quad * 4 + 1], x[quad * 4 + 2], x[quad * 4 + 3]]))
    }
    /// Reads four pixels of sixteen channels, and transposes them to `[16 channels][4 pixels]`.
    fn columns(self, x: &[u8; 4 * LANES]) -> Self::Columns;
    /// Reads a step's weights.
    fn weights(self, step: &Step) -> Self::Weights;
    /// Returns `dots + Σ (x − OFFSET) · w` over the four inputs.
    fn dot(self, dots: Self::Dots, x: Self::Quad, w: Self::Weights) -> Self::Dots;
    /// Does the same with the quad `LANE` of [`Int8Simd::four`].
    #[inline(always)]
    fn dot_lane<const LANE: usize>(self, dots: Self::Dots, x: Self::Quad, w: Self::Weights) -> Self::Dots {
        self.dot(dots, x, w)
    }
    /// Does the same with two quads of [`Int8Simd::four`].
    #[inline(always)]
    fn dot_pair(self, dots: Self::Dots, x: [Self::Quad; 2], w: [Self::Weights; 2]) -> Self::Dots {
        self.dot(self.dot(dots, x[0], w[0]), x[1], w[1])
    }
    /// Returns the dot products with inputs of their own for every output.
    fn dot_columns(self, dots: Self::Dots, x: Self::Columns, w: Self::Weights) -> Self::Dots;
    /// Returns the sums of the dot products.
    fn finish(self, dots: Self::Dots) -> Self::Sums;
    /// Returns the same value sixteen times.
    fn splat(self, value: i32) -> Self::Sums;
    /// Reads sixteen bytes.
    fn widen(self, x: &[u8; LANES]) -> Self::Sums;
    /// `a + b`, wrapping.
    fn add(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// `a − b`, wrapping.
    fn sub(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// `min(max(a, low), high)`.
    fn clamp(self, a: Self::Sums, low: Self::Sums, high: Self::Sums) -> Self::Sums;
    /// Converts to f32, to nearest even.
    fn real(self, sums: Self::Sums) -> Real<Self>;
    /// Rounds to integers, to nearest even. Values beyond ±2³⁰ give unspecified integers beyond ±(2³⁰ − 1) of the same
    /// sign.
    fn round(self, real: Real<Self>) -> Self::Sums;
    /// The same for values within ±2³⁰, which need no saturation.
    #[inline(always)]
    fn round_small(self, real: Real<Self>) -> Self::Sums {
        self.round(real)
    }
    /// Prepares a quantisation.
    fn range(self, rounding: Rounding) -> Self::Range;
    /// Writes `clamp(sums + zero_point, low, high)` of four pixels.
    fn bytes(self, sums: [Self::Sums; 4], range: Self::Range, out: &mut [u8; 4 * LANES]);
    /// Writes `clamp(sums, 0, 255)` of four pixels.
    #[inline(always)]
    fn plain_bytes(self, sums: [Self::Sums; 4], out: &mut [u8; 4 * LANES]) {
        self.bytes(sums, self.range(Rounding::new(0)), out);
    }
    /// Runs `kernel` in a function that is compiled for this instruction set.
    fn run<K: Int8Kernel>(self, kernel: K) -> K::Output;
    /// Does the same in a function that never becomes part of the caller.
    fn call<K: Int8Kernel>(self, kernel: K) -> K::Output;
}

/// A computation over bytes.
pub(crate) trait Int8Kernel {
    /// The kernel's result.
    type Output;
    /// Runs the kernel. Implementations are `#[inline(always)]`, so that they become part of the function that is
    /// compiled for the instruction set.
    fn run<S: Int8Simd>(self, simd: S) -> Self::Output;
}

/// The instructions of the int8 kernels that belong to an [`Isa`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Plain Rust.
    Exact(Exact),
    /// AVX2: products of i16.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2Int8),
    /// AVX2 with dot products of four bytes.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    /// AVX-512 with dot products of four bytes, and the same with permutations of bytes where the CPU has them.
    #[cfg(target_arch = "x86_64")]
    Vnni512(Vnni512<false>, Option<Vnni512<true>>),
    /// NEON: products of bytes.
    #[cfg(target_arch = "aarch64")]
    Neon(NeonInt8),
    /// NEON: sums of two products of bytes, for weights of at least −127.
    #[cfg(target_arch = "aarch64")]
    NeonPairs(NeonPairs),
    /// NEON with dot products of four signed bytes.
    #[cfg(target_arch = "aarch64")]
    DotProd(DotProd),
    /// NEON with dot products of four unsigned by signed bytes.
    #[cfg(target_arch = "aarch64")]
    I8mm(I8mm),
}

impl Level {
    /// Returns the fastest instructions for `isa`. Plain Rust uses `f32::mul_add` for every [`Isa`].
    pub(crate) fn of(isa: Isa) -> Self {
        match isa.token() {
            Token::Portable(_) | Token::Exact(_) => Self::Exact(Exact::new()),
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(proof) => {
                AvxVnni::detect(proof).map_or_else(|| Self::Avx2(Avx2Int8::new(proof)), Self::AvxVnni)
            }
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(proof) => Vnni512::detect(proof).map_or_else(
                || Self::of(Isa(Token::Avx2(proof.avx2()))),
                |token| Self::Vnni512(token, token.with_byte_permutations()),
            ),
            #[cfg(target_arch = "aarch64")]
            Token::Neon(proof) => {
                let neon = NeonInt8::new(proof);
                DotProd::detect(neon).map_or(Self::NeonPairs(NeonPairs::new(neon)), |dots| {
                    dots.mixed().map_or(Self::DotProd(dots), Self::I8mm)
                })
            }
        }
    }

    /// Returns every level that this machine can run, slowest first.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        for isa in Isa::available() {
            let level = Self::of(isa);
            #[cfg(target_arch = "x86_64")]
            match (isa.token(), level) {
                (Token::Avx2(proof), Self::AvxVnni(_)) => levels.push(Self::Avx2(Avx2Int8::new(proof))),
                (_, Self::Vnni512(token, Some(_))) => levels.push(Self::Vnni512(token, None)),
                _ => {}
            }
            #[cfg(target_arch = "aarch64")]
            if let Token::Neon(proof) = isa.token() {
                let neon = NeonInt8::new(proof);
                levels.extend([Self::Neon(neon), Self::NeonPairs(NeonPairs::new(neon))]);
                levels.extend(DotProd::detect(neon).map(Self::DotProd));
            }
            if !levels.contains(&level) {
                levels.push(level);
            }
        }
        levels
    }

    /// Returns the fastest instructions for weights that are at least −127 if `narrow`.
    #[cfg_attr(not(target_arch = "aarch64"), expect(unused_variables, reason = "only NEON differs"))]
    pub(crate) fn for_weights(self, narrow: bool) -> Self {
        match self {
            #[cfg(target_arch = "aarch64")]
            Self::NeonPairs(simd) if !narrow => Self::Neon(simd.neon()),
            level => level,
        }
    }

    /// The value of [`Int8Simd::OFFSET`].
    pub(crate) fn offset(self) -> i32 {
        struct Offset;
        impl Int8Kernel for Offset {
            type Output = i32;
            #[inline(always)]
            fn run<S: Int8Simd>(self, _: S) -> i32 {
                S::OFFSET
            }
        }
        dispatch(self, Offset)
    }
}

/// Runs `kernel` in the instructions of `level`.
pub(crate) fn dispatch<K: Int8Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        Level::Exact(simd) => Int8Simd::run(simd, kernel),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(simd) => simd.run(kernel),
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni(simd) => simd.run(kernel),
        #[cfg(target_arch = "x86_64")]
        Level::Vnni512(simd, _) => simd.run(kernel),
        #[cfg(target_arch = "aarch64")]
        Level::Neon(simd) => simd.run(kernel),
        #[cfg(target_arch = "aarch64")]
        Level::NeonPairs(simd) => simd.run(kernel),
        #[cfg(target_arch = "aarch64")]
        Level::DotProd(simd) => simd.run(kernel),
        #[cfg(target_arch = "aarch64")]
        Level::I8mm(simd) => simd.run(kernel),
    }
}

/// Does the same for a kernel that reads columns, with permutations of bytes where the CPU has them, or without
/// transposing where it has neither them nor dot products.
pub(crate) fn dispatch_columns<K: Int8Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Vnni512(_, Some(simd)) => simd.run(kernel),
        #[cfg(target_arch = "aarch64")]
        Level::Neon(simd) => NeonTaps::new(simd).run(kernel),
        #[cfg(target_arch = "aarch64")]
        Level::NeonPairs(simd) => simd.taps().run(kernel),
        level => dispatch(level, kernel),
    }
}
