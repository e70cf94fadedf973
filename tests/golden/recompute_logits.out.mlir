module attributes {keras.stage = "keras"} {
  func.func @main(%arg0: tensor<16x8xf32>, %arg1: tensor<8x300xf32>, %arg2: tensor<300xf32>, %arg3: tensor<16xi64>, %arg4: tensor<300x8xf32>, %arg5: tensor<16xf32>) -> (tensor<16xf32>, tensor<4x4xi64>, tensor<16x8xf32>, tensor<8x300xf32>, tensor<300xf32>, tensor<16xf32>, tensor<16x300xf32>, tensor<16xf32>) attributes {keras.logits = ["model/logits: logits are never stored: there is a budget of memory", "model/reused: logits are stored: keras.exp of model/odds reads the logits too", "model/few: logits are stored: rows of 5 are no longer than those of 8 they are made of"]} {
    %0:3 = "keras.linear_cross_entropy"(%arg0, %arg1, %arg2, %arg3) {transpose_w = false} : (tensor<16x8xf32>, tensor<8x300xf32>, tensor<300xf32>, tensor<16xi64>) -> (tensor<16xf32>, tensor<16xf32>, tensor<16xi64>)
    %1 = "keras.reshape"(%0#2) {shape = array<i64: 4, 4>} : (tensor<16xi64>) -> tensor<4x4xi64>
    %2 = "keras.linear_cross_entropy_input_grad"(%arg0, %arg1, %arg2, %arg3, %0#1, %arg5) {transpose_w = false} : (tensor<16x8xf32>, tensor<8x300xf32>, tensor<300xf32>, tensor<16xi64>, tensor<16xf32>, tensor<16xf32>) -> tensor<16x8xf32>
    %3:2 = "keras.linear_cross_entropy_weight_grad"(%arg0, %arg1, %arg2, %arg3, %0#1, %arg5) {transpose_w = false} : (tensor<16x8xf32>, tensor<8x300xf32>, tensor<300xf32>, tensor<16xi64>, tensor<16xf32>, tensor<16xf32>) -> (tensor<8x300xf32>, tensor<300xf32>)
    %4 = "keras.matmul"(%arg0, %arg4) {transpose_a = false, transpose_b = true} : (tensor<16x8xf32>, tensor<300x8xf32>) -> tensor<16x300xf32>
    %5:2 = "keras.cross_entropy"(%4, %arg3) : (tensor<16x300xf32>, tensor<16xi64>) -> (tensor<16xf32>, tensor<16xf32>)
    %6 = "keras.exp"(%4) : (tensor<16x300xf32>) -> tensor<16x300xf32>
    %7 = "keras.slice"(%arg1) {limits = array<i64: 8, 5>, starts = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<8x300xf32>) -> tensor<8x5xf32>
    %8 = "keras.matmul"(%arg0, %7) {transpose_a = false, transpose_b = false} : (tensor<16x8xf32>, tensor<8x5xf32>) -> tensor<16x5xf32>
    %9:2 = "keras.cross_entropy"(%8, %arg3) : (tensor<16x5xf32>, tensor<16xi64>) -> (tensor<16xf32>, tensor<16xf32>)
    return %0#0, %1, %2, %3#0, %3#1, %5#0, %6, %9#0 : tensor<16xf32>, tensor<4x4xi64>, tensor<16x8xf32>, tensor<8x300xf32>, tensor<300xf32>, tensor<16xf32>, tensor<16x300xf32>, tensor<16xf32>
  }
}
