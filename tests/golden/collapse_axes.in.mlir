module attributes {keras.stage = "keras"} {
  func.func @main(%x: tensor<6x4xf32> {keras.name = "x"}, %w: tensor<4x8xf32> {keras.name = "dense/kernel", keras.donated = 2 : i64}, %b: tensor<2x4xf32> {keras.name = "dense/bias"}, %r: tensor<2x3x2x4xf32> {keras.name = "residual"}, %g: tensor<2x3x2x4xf32> {keras.name = "gradient"}) -> (tensor<2x3xf32>, tensor<2x2x3x4xf32>, tensor<4x8xf32>, tensor<2x4xf32>) {
    %0 = "keras.matmul"(%x, %w) {transpose_a = false, transpose_b = false} : (tensor<6x4xf32>, tensor<4x8xf32>) -> tensor<6x8xf32> loc("dense")
    %1 = "keras.reshape"(%0) {shape = array<i64: 2, 3, 2, 4>} : (tensor<6x8xf32>) -> tensor<2x3x2x4xf32> loc("dense")
    %2 = "keras.add"(%1, %b) : (tensor<2x3x2x4xf32>, tensor<2x4xf32>) -> tensor<2x3x2x4xf32> loc("dense")
    %3 = "keras.tanh"(%2) : (tensor<2x3x2x4xf32>) -> tensor<2x3x2x4xf32> loc("dense")
    %4 = "keras.add"(%3, %r) : (tensor<2x3x2x4xf32>, tensor<2x3x2x4xf32>) -> tensor<2x3x2x4xf32> loc("add")
    %5 = "keras.sum"(%4) {axes = array<i64: 2, 3>} : (tensor<2x3x2x4xf32>) -> tensor<2x3xf32> loc("mean")
    %6 = "keras.broadcast_in_dim"(%5) {dims = array<i64: 0, 1>, shape = array<i64: 2, 3, 2, 4>} : (tensor<2x3xf32>) -> tensor<2x3x2x4xf32> loc("mean")
    %7 = "keras.sub"(%4, %6) : (tensor<2x3x2x4xf32>, tensor<2x3x2x4xf32>) -> tensor<2x3x2x4xf32> loc("mean")
    %8 = "keras.reshape"(%7) {shape = array<i64: 6, 8>} : (tensor<2x3x2x4xf32>) -> tensor<6x8xf32> loc("loss")
    %9 = "keras.matmul"(%x, %8) {transpose_a = true, transpose_b = false} : (tensor<6x4xf32>, tensor<6x8xf32>) -> tensor<4x8xf32> loc("dense/grad")
    %10 = "keras.sub"(%w, %9) : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32> loc("optimizer")
    %11 = "keras.exp"(%g) : (tensor<2x3x2x4xf32>) -> tensor<2x3x2x4xf32> loc("heads")
    %12 = "keras.transpose"(%11) {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x2x4xf32>) -> tensor<2x2x3x4xf32> loc("heads")
    %13 = "keras.sum"(%4) {axes = array<i64: 0, 1>} : (tensor<2x3x2x4xf32>) -> tensor<2x4xf32> loc("dense/grad")
    return %5, %12, %10, %13 : tensor<2x3xf32>, tensor<2x2x3x4xf32>, tensor<4x8xf32>, tensor<2x4xf32>
  }
}
