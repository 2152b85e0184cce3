//! Results are bit-identical for any number of threads.

use super::{cases, convolution, flat, gradients, variable};
use candle_core::Result;
use clr_onnx::Padding;

#[test]
fn results_do_not_depend_on_the_thread_count() -> Result<()> {
    let outcome = |threads: usize| -> Result<Vec<Vec<f32>>> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool");
        pool.install(|| {
            let mut all = Vec::new();
            for case in cases::all() {
                let y = (case.run)(&case.variables)?;
                all.push(flat(&y));
                all.extend(gradients(&y, &case.variables));
            }
            // Large enough that tiles and channels are distributed differently over the threads.
            for (map, weight, stride) in [
                ([3, 32, 30, 29], [48, 32, 3, 3], 1),
                ([3, 32, 30, 29], [48, 32, 3, 3], 2),
                ([3, 32, 30, 29], [48, 32, 1, 1], 1),
            ] {
                let x = variable(&map, 1, 1.0);
                let pad = weight[2] / 2;
                let y = convolution(weight, 1, [stride; 2], [1; 2], Padding::Explicit([pad; 4])).forward(&x)?;
                all.push(flat(&y));
                all.extend(gradients(&y, &[x]));
            }
            Ok(all)
        })
    };
    let one = outcome(1)?;
    for threads in [2, 3] {
        assert!(outcome(threads)? == one, "{threads} threads");
    }
    Ok(())
}
