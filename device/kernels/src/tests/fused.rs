//! Fused convolutions.

use super::*;

#[test]
fn fused_convolution_equals_its_definition_at_every_isa_and_thread_count() {
    let mut random = Random(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for (number, case) in cases().into_iter().enumerate() {
        let Case {
            input,
            out,
            pads,
            image,
            ..
        } = case;
        let x = Map::random(input, &mut random);
        let conv = case.conv(&mut random);
        let sums = convolve(&x, &conv, pads);
        let shortcut = Map::random(sums.shape, &mut random);
        let forms = case.forms();
        let packed: Vec<_> = forms
            .iter()
            .map(|&form| Arc::new(PackedConv::new(&conv, form)))
            .collect();
        let bounds = Bounds { low: -0.5, high: 2.0 };
        for epilogue in [Epilogue::Affine, Epilogue::Kernel] {
            let kernels = random.vector(out * 9);
            let biases = random.vector(out);
            let layer = Conv {
                weight: Tensor::new([out, 1, 3, 3], kernels.clone()).into(),
                stride: [1; 2],
                dilation: [1; 2],
                group: out,
                ..conv.clone()
            };
            let mut want = if epilogue == Epilogue::Kernel {
                convolve(&sums, &layer, [1; 4])
            } else {
                sums.clone()
            };
            // The largest value before the clamp, to which the rounding error is relative.
            let scale = largest(&want.data);
            let plane = sums.shape[1] * sums.shape[2];
            let mut parameters = vec![0.0; out.div_ceil(LANES) * epilogue.parameters()];
            for c in 0..out {
                let block = &mut parameters[c / LANES * epilogue.parameters()..];
                if epilogue == Epilogue::Kernel {
                    (0..9).for_each(|tap| block[tap * LANES + c % LANES] = kernels[c * 9 + tap]);
                    block[9 * LANES + c % LANES] = biases[c];
                } else {
                    block[c % LANES] = kernels[c];
                    block[LANES + c % LANES] = biases[c];
                }
                let scale = if epilogue == Epilogue::Kernel { 1.0 } else { kernels[c] };
                for (value, shortcut) in want.data[c * plane..(c + 1) * plane]
                    .iter_mut()
                    .zip(&shortcut.data[c * plane..])
                {
                    *value = (*value * scale + biases[c] + shortcut).clamp(bounds.low, bounds.high);
                }
            }
            let source = if image { x.pixels() } else { x.blocks() };
            for (isa, (form, packed)) in Isa::available()
                .into_iter()
                .flat_map(|isa| forms.iter().zip(&packed).map(move |it| (isa, it)))
            {
                let mut answers = Vec::new();
                for threads in [1, 3] {
                    let fused = FusedConv {
                        conv: Arc::clone(packed),
                        input: [input[1], input[2]],
                        output: [sums.shape[1], sums.shape[2]],
                        pads,
                        epilogue,
                        bounds,
                        smooth: None,
                        isa,
                        threads,
                        arena: Arc::default(),
                    };
                    let mut blocks = vec![f32::NAN; fused.output_len()];
                    let residual = shortcut.blocks();
                    pool.install(|| fused.run(&source, &parameters, Some(&residual), &mut blocks));
                    let mut got = vec![0.0; want.data.len()];
                    unblock(&blocks, out, &mut got);
                    close(
                        &got,
                        &want.data,
                        scale,
                        &format!("case {number}, {epilogue:?}, {form:?}, {isa:?}, {threads} threads"),
                    );
                    let doubled: Vec<f32> = source.iter().map(|value| 2.0 * value).collect();
                    let mut together = [vec![f32::NAN; blocks.len()], vec![f32::NAN; blocks.len()]];
                    let images = [&doubled, &source].into_iter().zip(&mut together);
                    let mut images: Vec<_> = images
                        .map(|(x, out)| ConvImage {
                            x,
                            residual: Some(&residual),
                            out,
                        })
                        .collect();
                    pool.install(|| fused.run_images(&mut images, &parameters));
                    assert_eq!(
                        together[1], blocks,
                        "case {number}, {epilogue:?}, {form:?}, {isa:?}: another image changes the answer"
                    );
                    let smooth = Smooth::Silu;
                    let fused = FusedConv {
                        smooth: Some(smooth),
                        ..fused
                    };
                    let mut activated = vec![f32::NAN; blocks.len()];
                    pool.install(|| fused.run(&source, &parameters, Some(&residual), &mut activated));
                    let mut want = blocks.clone();
                    activate(isa, &mut want, smooth);
                    assert_eq!(
                        activated, want,
                        "case {number}, {epilogue:?}, {form:?}: the fused activation"
                    );
                    answers.push(blocks);
                }
                assert_eq!(
                    answers[0], answers[1],
                    "case {number}, {epilogue:?}, {isa:?}: threads change the answer"
                );
            }
        }
    }
}
