//! The kernels, compiled as a library by the system's C compiler.

use crate::cuda::arguments::{Arguments, INPUTS, OUTPUTS, Parameters};
use crate::cuda::backend::{Backend, Gemm, Part, View};
use candle_core::Result;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{CString, c_int, c_longlong, c_void};
use std::path::Path;
use std::process::Command;

/// Number of guard values before and after each buffer. No kernel may read or change them.
const MARGIN: usize = 64;

/// The loaded library. Its grid is in global variables, so it can be used by one thread at a time.
pub(super) struct Compiled {
    library: *mut c_void,
    /// Whether blocks and threads run in reverse order. If a result depends on the order, there would be a race on a
    /// GPU.
    pub(super) reversed: bool,
    /// Names of the kernels that were launched.
    pub(super) launched: RefCell<BTreeSet<&'static str>>,
    _folder: tempfile::TempDir,
}

impl Compiled {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("kernels.so");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        // Read at run time, because checkouts with a common target folder share this binary.
        let root = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
        let source = Path::new(&root).join("src/cuda/kernels/kernels.cu");
        let status = Command::new(compiler)
            .args([
                "-x", "c", "-std=c99", "-O1", "-Wall", "-Werror", "-fPIC", "-shared", "-o",
            ])
            .arg(&library)
            .arg(source)
            .arg("-lm")
            .status()
            .expect("a C compiler: the one that links Rust programs");
        assert!(status.success(), "the kernels do not compile as C");
        let name = CString::new(library.to_str().expect("a path")).expect("a path");
        // SAFETY: the library has no initialisers.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        assert!(!library.is_null(), "the compiled kernels cannot be loaded");
        Self {
            library,
            reversed: false,
            launched: RefCell::default(),
            _folder: folder,
        }
    }

    fn symbol(&self, name: &str) -> *mut c_void {
        let c_name = CString::new(name).expect("a name");
        // SAFETY: the library is open.
        let symbol = unsafe { libc::dlsym(self.library, c_name.as_ptr()) };
        assert!(!symbol.is_null(), "no kernel is called {name}");
        symbol
    }

    /// Returns a buffer that holds `values`.
    pub(super) fn buffer(values: &[f32]) -> Buffer {
        let mut all = vec![f32::NAN; values.len() + 2 * MARGIN];
        all[MARGIN..MARGIN + values.len()].copy_from_slice(values);
        Buffer(all)
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        // SAFETY: nothing of the library is in use any more.
        unsafe { libc::dlclose(self.library) };
    }
}

/// Values between margins of NaN, so that reading outside of the buffer affects the results.
pub(super) struct Buffer(Vec<f32>);

impl Buffer {
    pub(super) fn values(&self) -> &[f32] {
        &self.0[MARGIN..self.0.len() - MARGIN]
    }

    fn check(&self, kernel: &str) {
        let outside = self.0[..MARGIN].iter().chain(&self.0[self.0.len() - MARGIN..]);
        assert!(
            outside.into_iter().all(|x| x.is_nan()),
            "{kernel} wrote outside of its buffer"
        );
    }
}

fn values(part: View<'_, Compiled>) -> &[f32] {
    &part.buffer.values()[part.start..part.start + part.len]
}

impl Backend for Compiled {
    type Buffer = Buffer;

    fn allocate(&self, len: usize) -> Result<Buffer> {
        Ok(Self::buffer(&vec![f32::NAN; len]))
    }

    fn view<'a>(&self, buffer: &'a Buffer) -> View<'a, Self> {
        Part {
            buffer,
            start: 0,
            len: buffer.values().len(),
        }
    }

    fn launch(
        &self,
        kernel: &'static str,
        blocks: usize,
        inputs: &[Option<View<'_, Self>>],
        outputs: &mut [&mut Buffer],
        parameters: Parameters,
    ) -> Result<()> {
        let mut arguments = Arguments {
            inputs: [0; INPUTS],
            outputs: [0; OUTPUTS],
            parameters,
        };
        assert!(inputs.len() <= INPUTS && outputs.len() <= OUTPUTS, "{kernel}");
        for (address, input) in arguments.inputs.iter_mut().zip(inputs) {
            *address = input.map_or(0, |input| values(input).as_ptr() as u64);
        }
        for (address, output) in arguments.outputs.iter_mut().zip(outputs.iter_mut()) {
            *address = output.0[MARGIN..].as_mut_ptr() as u64;
        }
        // SAFETY: the signatures are those of `grid.h`.
        let (set_grid, run) = unsafe {
            (
                std::mem::transmute::<*mut c_void, extern "C" fn(c_longlong, c_longlong, c_int)>(
                    self.symbol("set_grid"),
                ),
                std::mem::transmute::<*mut c_void, extern "C" fn(Arguments)>(self.symbol(kernel)),
            )
        };
        for index in 0..blocks {
            let block = if self.reversed { blocks - 1 - index } else { index };
            set_grid(block as i64, blocks as i64, c_int::from(self.reversed));
            run(arguments);
        }
        for output in outputs {
            output.check(kernel);
        }
        self.launched.borrow_mut().insert(kernel);
        Ok(())
    }

    /// Multiplies like cuBLAS's `gemmStridedBatched`, in which all matrices are column-major.
    fn multiply(&self, gemm: Gemm, a: View<'_, Self>, b: View<'_, Self>, c: &mut Buffer, start: usize) -> Result<()> {
        let (a, b) = (values(a), values(b));
        let c = &mut c.0[MARGIN + start..];
        for index in 0..gemm.batch {
            let (a, b) = (&a[index * gemm.step_a..], &b[index * gemm.step_b..]);
            for column in 0..gemm.n {
                for row in 0..gemm.m {
                    let products = (0..gemm.k).map(|k| {
                        let b = if gemm.transposed_b {
                            b[column + k * gemm.ldb]
                        } else {
                            b[k + column * gemm.ldb]
                        };
                        f64::from(a[row + k * gemm.lda]) * f64::from(b)
                    });
                    c[index * gemm.step_c + row + column * gemm.ldc] = products.sum::<f64>() as f32;
                }
            }
        }
        Ok(())
    }
}
