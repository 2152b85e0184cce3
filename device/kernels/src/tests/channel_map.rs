//! Tests of concatenating channels.

use super::*;

#[test]
fn concatenation_keeps_every_channel_in_order() {
    let mut random = Random(3);
    let maps = [[24, 3, 2], [16, 3, 2], [5, 3, 2], [40, 3, 2]].map(|shape| Map::random(shape, &mut random));
    let blocks = maps.each_ref().map(Map::blocks);
    let inputs: Vec<&[f32]> = blocks.iter().map(|blocks| &blocks[..]).collect();
    let mut out = vec![f32::NAN; 85usize.div_ceil(LANES) * 6 * LANES];
    let index: Vec<u32> = (0..85).collect();
    ChannelMap::new(&maps.each_ref().map(|map| map.shape[0]), &index, 6).run(&inputs, &mut out);
    let mut got = vec![0.0; 85 * 6];
    unblock(&out, 85, &mut got);
    let want: Vec<f32> = maps.iter().flat_map(|map| map.data.iter().copied()).collect();
    assert_eq!(got, want);
    assert!(out.iter().all(|value| value.is_finite()));
}
