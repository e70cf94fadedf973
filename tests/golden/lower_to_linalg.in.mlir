// A dense layer with dropout, its mean, and a momentum update of weight and bias.
module attributes {keras.stage = "keras"} {
  func.func @main(%x: tensor<4x3xf32> {keras.name = "x"},
                  %w: tensor<3x2xf32> {keras.name = "w", keras.donated = 1 : i64},
                  %b: tensor<2xf32> {keras.name = "b", keras.donated = 2 : i64},
                  %mw: tensor<3x2xf32> {keras.name = "mw", keras.donated = 3 : i64},
                  %mb: tensor<2xf32> {keras.name = "mb", keras.donated = 4 : i64},
                  %rate: tensor<f32> {keras.name = "rate"})
      -> (tensor<f32>, tensor<3x2xf32>, tensor<2xf32>, tensor<3x2xf32>, tensor<2xf32>) {
    %0 = "keras.matmul"(%x, %w) {transpose_a = false, transpose_b = false} : (tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32> loc("model/dense")
    %1 = "keras.add"(%0, %b) : (tensor<4x2xf32>, tensor<2xf32>) -> tensor<4x2xf32> loc("model/dense")
    %2 = "keras.relu"(%1) : (tensor<4x2xf32>) -> tensor<4x2xf32> loc("model/dense")
    %3 = "keras.softmax"(%2) : (tensor<4x2xf32>) -> tensor<4x2xf32> loc("model/softmax")
    %4 = "keras.sum"(%3) {axes = array<i64: 0, 1>} : (tensor<4x2xf32>) -> tensor<f32> loc("loss")
    %zero = "keras.full"() {value = 0.0 : f64, shape = array<i64>, dtype = "f32"} : () -> tensor<f32>
    %5 = "keras.gt"(%2, %zero) : (tensor<4x2xf32>, tensor<f32>) -> tensor<4x2xi1> loc("model/dense")
    %6 = "keras.select"(%5, %3, %zero) : (tensor<4x2xi1>, tensor<4x2xf32>, tensor<f32>) -> tensor<4x2xf32> loc("model/dense")
    %gb = "keras.sum"(%6) {axes = array<i64: 0>} : (tensor<4x2xf32>) -> tensor<2xf32> loc("model/dense")
    %gw = "keras.matmul"(%x, %6) {transpose_a = true, transpose_b = false} : (tensor<4x3xf32>, tensor<4x2xf32>) -> tensor<3x2xf32> loc("model/dense")
    %momentum = "keras.full"() {value = 0.9 : f64, shape = array<i64>, dtype = "f32"} : () -> tensor<f32>
    %7 = "keras.mul"(%mw, %momentum) : (tensor<3x2xf32>, tensor<f32>) -> tensor<3x2xf32> loc("optimizer")
    %8 = "keras.mul"(%gw, %rate) : (tensor<3x2xf32>, tensor<f32>) -> tensor<3x2xf32> loc("optimizer")
    %9 = "keras.sub"(%7, %8) : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x2xf32> loc("optimizer")
    %10 = "keras.add"(%w, %9) : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x2xf32> loc("optimizer")
    %11 = "keras.mul"(%mb, %momentum) : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32> loc("optimizer")
    %12 = "keras.mul"(%gb, %rate) : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32> loc("optimizer")
    %13 = "keras.sub"(%11, %12) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32> loc("optimizer")
    %14 = "keras.add"(%b, %13) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32> loc("optimizer")
    return %4, %10, %14, %9, %13 : tensor<f32>, tensor<3x2xf32>, tensor<2xf32>, tensor<3x2xf32>, tensor<2xf32>
  }
}
