module attributes {keras.stage = "keras"} {
  func.func private @ext1(tensor<2x3xf32>) -> tensor<2x3xf32> attributes {keras.extern = {args = "[[{\22t\22: 0}]]", reason = "no dialect op for aten.erfinv.default", target = "aten.erfinv.default"}}
  func.func @main(%arg0: tensor<2x3xf32> {keras.name = "data/x"}, %arg1: tensor<3xf32> {keras.donated = 1 : i64, keras.name = "dense/bias"}, %arg2: tensor<3xi32> {keras.name = "i"}) -> (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf64>, tensor<2x3xf32>, tensor<2x3xf32>) {
    %0 = "keras.exp"(%arg0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %1 = "keras.add"(%0, %0) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    %2 = call @ext1(%1) : (tensor<2x3xf32>) -> tensor<2x3xf32>
    %3 = "keras.cast"(%arg2) {dtype = "f64"} : (tensor<3xi32>) -> tensor<3xf64>
    %4 = "keras.full"() {dtype = "f32", shape = array<i64>, value = 0.000000e+00 : f64} : () -> tensor<f32>
    %5 = "keras.add"(%2, %4) : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
    %6 = "keras.broadcast_in_dim"(%arg1) {dims = array<i64: 1>, shape = array<i64: 2, 3>} : (tensor<3xf32>) -> tensor<2x3xf32>
    %7 = "keras.sum"(%5) {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    %8 = "keras.full"() {dtype = "f32", shape = array<i64>, value = 3.000000e+00 : f64} : () -> tensor<f32>
    %9 = "keras.div"(%7, %8) : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
    %10 = "keras.broadcast_in_dim"(%9) {dims = array<i64: 0>, shape = array<i64: 2, 3>} : (tensor<2xf32>) -> tensor<2x3xf32>
    %11 = "keras.sub"(%arg0, %10) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
    return %6, %arg1, %3, %11, %5 : tensor<2x3xf32>, tensor<3xf32>, tensor<3xf64>, tensor<2x3xf32>, tensor<2x3xf32>
  }
}
