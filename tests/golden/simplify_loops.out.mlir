module attributes {keras.stage = "keras"} {
  func.func private @scan0(tensor<4xf32>, tensor<3x4xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<3x4xf32>) attributes {keras.scan = {body = @scan0_body, carries = 1 : i64, length = 3 : i64, reverse = false, scanned = 1 : i64}}
  func.func private @scan0_body(%arg0: tensor<4xf32>, %arg1: tensor<4xf32>, %arg2: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
    %0 = "keras.mul"(%arg1, %arg1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    %1 = "keras.add"(%0, %arg2) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    %2 = "keras.add"(%arg0, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    return %2, %2 : tensor<4xf32>, tensor<4xf32>
  }
  func.func @main(%arg0: tensor<4xf32> {keras.name = "data/h"}, %arg1: tensor<4xf32> {keras.name = "data/fixed"}, %arg2: tensor<3x4xf32> {keras.name = "data/x"}) -> (tensor<4xf32>, tensor<3x4xf32>) {
    %0:2 = call @scan0(%arg0, %arg2, %arg1) : (tensor<4xf32>, tensor<3x4xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<3x4xf32>)
    %1 = "keras.add"(%0#0, %arg1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    return %1, %0#1 : tensor<4xf32>, tensor<3x4xf32>
  }
}
