#map = affine_map<(d0, d1) -> (d0, d1)>
module attributes {keras.stage = "regions"} {
  func.func private @third_matmul_exp_0(%arg0: tensor<32x64xf32>, %arg1: tensor<64x64xf32>) -> tensor<32x64xf32> attributes {keras.kernel = "matmul", keras.layers = ["dense", "third"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = false, transpose_b = false} : (tensor<32x64xf32>, tensor<64x64xf32>) -> tensor<32x64xf32>
    %1 = tensor.empty() : tensor<32x64xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%0 : tensor<32x64xf32>) outs(%1 : tensor<32x64xf32>) attrs =  {keras.op = "exp"} {
    ^bb0(%in: f32, %out: f32):
      %3 = math.exp %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %3 : f32
    } -> tensor<32x64xf32>
    return %2 : tensor<32x64xf32>
  }
  func.func @main(%arg0: tensor<32x64xf32>, %arg1: tensor<64x64xf32>) -> tensor<32x64xf32> {
    %0 = call @third_matmul_exp_0(%arg0, %arg1) : (tensor<32x64xf32>, tensor<64x64xf32>) -> tensor<32x64xf32>
    return %0 : tensor<32x64xf32>
  }
}
