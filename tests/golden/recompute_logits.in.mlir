module attributes {keras.stage = "keras"} {
  func.func @main(%x: tensor<16x8xf32>, %w: tensor<8x300xf32>, %b: tensor<300xf32>, %t: tensor<16xi64>, %e: tensor<300x8xf32>, %g: tensor<16xf32>) -> (tensor<16xf32>, tensor<4x4xi64>, tensor<16x8xf32>, tensor<8x300xf32>, tensor<300xf32>, tensor<16xf32>, tensor<16x300xf32>, tensor<16xf32>) {
    %0 = "keras.matmul"(%x, %w) {transpose_a = false, transpose_b = false} : (tensor<16x8xf32>, tensor<8x300xf32>) -> tensor<16x300xf32> loc("model/logits")
    %1 = "keras.reshape"(%0) {shape = array<i64: 4, 4, 300>} : (tensor<16x300xf32>) -> tensor<4x4x300xf32>
    %2 = "keras.add"(%1, %b) : (tensor<4x4x300xf32>, tensor<300xf32>) -> tensor<4x4x300xf32> loc("model/logits")
    %3 = "keras.reshape"(%2) {shape = array<i64: 16, 300>} : (tensor<4x4x300xf32>) -> tensor<16x300xf32>
    %4:2 = "keras.cross_entropy"(%3, %t) : (tensor<16x300xf32>, tensor<16xi64>) -> (tensor<16xf32>, tensor<16xf32>) loc("model/loss")
    %5 = "keras.argmax"(%2) {axis = 2 : i64} : (tensor<4x4x300xf32>) -> tensor<4x4xi64> loc("model/metrics")
    %6 = "keras.cross_entropy_grad"(%g, %3, %t, %4#1) : (tensor<16xf32>, tensor<16x300xf32>, tensor<16xi64>, tensor<16xf32>) -> tensor<16x300xf32> loc("model/loss/grad")
    %7 = "keras.matmul"(%6, %w) {transpose_a = false, transpose_b = true} : (tensor<16x300xf32>, tensor<8x300xf32>) -> tensor<16x8xf32> loc("model/logits/grad")
    %8 = "keras.matmul"(%x, %6) {transpose_a = true, transpose_b = false} : (tensor<16x8xf32>, tensor<16x300xf32>) -> tensor<8x300xf32> loc("model/logits/grad")
    %9 = "keras.reshape"(%6) {shape = array<i64: 4, 4, 300>} : (tensor<16x300xf32>) -> tensor<4x4x300xf32>
    %10 = "keras.sum"(%9) {axes = array<i64: 0, 1>} : (tensor<4x4x300xf32>) -> tensor<300xf32> loc("model/logits/grad")
    %11 = "keras.matmul"(%x, %e) {transpose_a = false, transpose_b = true} : (tensor<16x8xf32>, tensor<300x8xf32>) -> tensor<16x300xf32> loc("model/reused")
    %12:2 = "keras.cross_entropy"(%11, %t) : (tensor<16x300xf32>, tensor<16xi64>) -> (tensor<16xf32>, tensor<16xf32>) loc("model/loss")
    %13 = "keras.exp"(%11) : (tensor<16x300xf32>) -> tensor<16x300xf32> loc("model/odds")
    %14 = "keras.slice"(%w) {starts = array<i64: 0, 0>, limits = array<i64: 8, 5>, strides = array<i64: 1, 1>} : (tensor<8x300xf32>) -> tensor<8x5xf32>
    %15 = "keras.matmul"(%x, %14) {transpose_a = false, transpose_b = false} : (tensor<16x8xf32>, tensor<8x5xf32>) -> tensor<16x5xf32> loc("model/few")
    %16:2 = "keras.cross_entropy"(%15, %t) : (tensor<16x5xf32>, tensor<16xi64>) -> (tensor<16xf32>, tensor<16xf32>) loc("model/loss")
    return %4#0, %5, %7, %8, %10, %12#0, %13, %16#0 : tensor<16xf32>, tensor<4x4xi64>, tensor<16x8xf32>, tensor<8x300xf32>, tensor<300xf32>, tensor<16xf32>, tensor<16x300xf32>, tensor<16xf32>
  }
}
