module attributes {keras.stage = "keras"} {
  func.func @main(%x: tensor<4x3xf32> {keras.name = "x"}, %w: tensor<3x5xf32> {keras.name = "dense/kernel"}, %b: tensor<5xf32> {keras.name = "dense/bias"}, %v: tensor<5x2xf32> {keras.name = "out/kernel"}, %c: tensor<2xf32> {keras.name = "out/bias"}) -> (tensor<4x2xf32>, tensor<4x5xf32>, tensor<4x5xf32>) {
    %0 = "keras.matmul"(%x, %w) {transpose_a = false, transpose_b = false} : (tensor<4x3xf32>, tensor<3x5xf32>) -> tensor<4x5xf32> loc("dense")
    %1 = "keras.add"(%0, %b) : (tensor<4x5xf32>, tensor<5xf32>) -> tensor<4x5xf32> loc("dense")
    %2 = "keras.relu"(%1) : (tensor<4x5xf32>) -> tensor<4x5xf32> loc("dense")
    %3 = "keras.matmul"(%2, %v) {transpose_a = false, transpose_b = false} : (tensor<4x5xf32>, tensor<5x2xf32>) -> tensor<4x2xf32> loc("out")
    %4 = "keras.add"(%3, %c) : (tensor<4x2xf32>, tensor<2xf32>) -> tensor<4x2xf32> loc("out")
    %5 = "keras.matmul"(%x, %w) {transpose_a = false, transpose_b = false} : (tensor<4x3xf32>, tensor<3x5xf32>) -> tensor<4x5xf32> loc("read_twice")
    %6 = "keras.add"(%5, %b) : (tensor<4x5xf32>, tensor<5xf32>) -> tensor<4x5xf32> loc("read_twice")
    return %4, %5, %6 : tensor<4x2xf32>, tensor<4x5xf32>, tensor<4x5xf32>
  }
}
