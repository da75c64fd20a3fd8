// SPDX-License-Identifier: MIT
plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "dev.tinyvlm.sample"
    compileSdk = 34
    defaultConfig {
        applicationId = "dev.tinyvlm.sample"
        minSdk = 26
        targetSdk = 34
    }
    sourceSets["main"].assets.srcDir(layout.buildDirectory.dir("vlm"))
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
    kotlinOptions { jvmTarget = "1.8" }
    androidResources { noCompress += "gguf" }
}

// The npm package (`make wasm` builds its modules) and the model, from where they lie in the repository.
val vlmAssets = tasks.register<Sync>("vlmAssets") {
    from("../../../js") {
        include("src/**", "dist/*.wasm")
        into("vlm/tinyvlm")
    }
    from("../../../models/tinyvlm-25m.gguf") {
        rename { "model.gguf" }
        into("vlm")
    }
    into(layout.buildDirectory.dir("vlm"))
}
tasks.named("preBuild") { dependsOn(vlmAssets) }

dependencies { implementation(project(":tinyvlm")) }
