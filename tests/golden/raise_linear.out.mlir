module attributes {keras.stage = "keras"} {
  func.func @main(%arg0: tensor<4x3xf32> {keras.name = "x"}, %arg1: tensor<3x5xf32> {keras.name = "dense/kernel"}, %arg2: tensor<5xf32> {keras.name = "dense/bias"}, %arg3: tensor<5x2xf32> {keras.name = "out/kernel"}, %arg4: tensor<2xf32> {keras.name = "out/bias"}) -> (tensor<4x2xf32>, tensor<4x5xf32>, tensor<4x5xf32>) {
    %0 = "keras.linear"(%arg0, %arg1, %arg2) {activation = "relu"} : (tensor<4x3xf32>, tensor<3x5xf32>, tensor<5xf32>) -> tensor<4x5xf32>
    %1 = "keras.linear"(%0, %arg3, %arg4) {activation = "none"} : (tensor<4x5xf32>, tensor<5x2xf32>, tensor<2xf32>) -> tensor<4x2xf32>
    %2 = "keras.matmul"(%arg0, %arg1) {transpose_a = false, transpose_b = false} : (tensor<4x3xf32>, tensor<3x5xf32>) -> tensor<4x5xf32>
    %3 = "keras.add"(%2, %arg2) : (tensor<4x5xf32>, tensor<5xf32>) -> tensor<4x5xf32>
    return %1, %2, %3 : tensor<4x2xf32>, tensor<4x5xf32>, tensor<4x5xf32>
  }
}
