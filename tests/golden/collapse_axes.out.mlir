module attributes {keras.stage = "keras"} {
  func.func @main(%arg0: tensor<6x4xf32> {keras.name = "x"}, %arg1: tensor<4x8xf32> {keras.donated = 2 : i64, keras.name = "dense/kernel"}, %arg2: tensor<2x4xf32> {keras.name = "dense/bias"}, %arg3: tensor<2x3x2x4xf32> {keras.name = "residual"}, %arg4: tensor<2x3x2x4xf32> {keras.name = "gradient"}) -> (tensor<2x3xf32>, tensor<2x2x3x4xf32>, tensor<4x8xf32>, tensor<2x4xf32>) {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = false, transpose_b = false} : (tensor<6x4xf32>, tensor<4x8xf32>) -> tensor<6x8xf32>
    %1 = "keras.reshape"(%arg2) {shape = array<i64: 8>} : (tensor<2x4xf32>) -> tensor<8xf32>
    %2 = "keras.add"(%0, %1) : (tensor<6x8xf32>, tensor<8xf32>) -> tensor<6x8xf32>
    %3 = "keras.tanh"(%2) : (tensor<6x8xf32>) -> tensor<6x8xf32>
    %4 = "keras.reshape"(%arg3) {shape = array<i64: 6, 8>} : (tensor<2x3x2x4xf32>) -> tensor<6x8xf32>
    %5 = "keras.add"(%3, %4) : (tensor<6x8xf32>, tensor<6x8xf32>) -> tensor<6x8xf32>
    %6 = "keras.sum"(%5) {axes = array<i64: 1>} : (tensor<6x8xf32>) -> tensor<6xf32>
    %7 = "keras.reshape"(%6) {shape = array<i64: 2, 3>} : (tensor<6xf32>) -> tensor<2x3xf32>
    %8 = "keras.broadcast_in_dim"(%6) {dims = array<i64: 0>, shape = array<i64: 6, 8>} : (tensor<6xf32>) -> tensor<6x8xf32>
    %9 = "keras.sub"(%5, %8) : (tensor<6x8xf32>, tensor<6x8xf32>) -> tensor<6x8xf32>
    %10 = "keras.matmul"(%arg0, %9) {transpose_a = true, transpose_b = false} : (tensor<6x4xf32>, tensor<6x8xf32>) -> tensor<4x8xf32>
    %11 = "keras.sub"(%arg1, %10) : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
    %12 = "keras.exp"(%arg4) : (tensor<2x3x2x4xf32>) -> tensor<2x3x2x4xf32>
    %13 = "keras.transpose"(%12) {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x2x4xf32>) -> tensor<2x2x3x4xf32>
    %14 = "keras.sum"(%5) {axes = array<i64: 0>} : (tensor<6x8xf32>) -> tensor<8xf32>
    %15 = "keras.reshape"(%14) {shape = array<i64: 2, 4>} : (tensor<8xf32>) -> tensor<2x4xf32>
    return %7, %13, %11, %15 : tensor<2x3xf32>, tensor<2x2x3x4xf32>, tensor<4x8xf32>, tensor<2x4xf32>
  }
}
